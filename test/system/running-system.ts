import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { until } from "./poll.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The first start may build the guest image. */
const READY_DEADLINE_MS = 8 * 60_000;
/** The host stops its guests, then every part ends. */
const STOP_DEADLINE_MS = 60_000;

const devJson = z.object({
  apiUrl: z.url(),
  apiKey: z.string(),
  sshHost: z.string(),
  sshPort: z.int(),
  serviceKey: z.string(),
});

/** Where a started system is and what opens it: `dev.json`, its home and its operator's key. Plain data. */
export type SystemAccess = z.infer<typeof devJson> & {
  readonly home: string;
  readonly operatorKey: string;
  /** Process id of `npm start`'s own process, the parent of every part. */
  readonly pid: number;
};

export interface StartOptions {
  readonly home: string;
  /** Absent: any free port. */
  readonly port?: number;
  readonly sshPort?: number;
  /** Settings, by their names in the environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A system that this process started with the same command as `npm start`. */
export class RunningSystem {
  readonly access: SystemAccess;
  readonly #process: ChildProcess;

  private constructor(access: SystemAccess, process: ChildProcess) {
    this.access = access;
    this.#process = process;
  }

  /** Starts a system and answers when it is ready. Throws with what it printed when it ends or dawdles instead. */
  static async start({ home, port = 0, sshPort = 0, env = {} }: StartOptions): Promise<RunningSystem> {
    mkdirSync(home, { recursive: true, mode: 0o700 });
    const child = spawn(process.execPath, ["bin/postern.ts", "start"], {
      cwd: root,
      env: { ...process.env, ...env, PORT: String(port), SSH_PORT: String(sshPort), POSTERN_HOME: home },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const transcript = createWriteStream(transcriptFile(home), { flags: "a", mode: 0o600 });
    let printed = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        printed += text;
        transcript.write(text);
      });
    }
    let ended: string | null = null;
    child.once("error", (error) => {
      ended = error.message;
    });
    child.once("exit", (code, signal) => {
      ended = signal ?? `exit status ${code}`;
    });
    const file = join(home, "dev.json");
    const ready = await until("the system is ready", READY_DEADLINE_MS, () =>
      ended !== null || existsSync(file) ? true : undefined,
    ).catch(() => false);
    if (!ready || ended !== null) {
      child.kill("SIGKILL");
      throw new Error(`the system did not start (${ended ?? "too slow"}). Its logs are in ${home}. It printed:\n${printed}`);
    }
    const access = {
      ...devJson.parse(JSON.parse(readFileSync(file, "utf8"))),
      home,
      operatorKey: readFileSync(join(home, "operator.key"), "utf8").trim(),
      pid: z.int().parse(child.pid),
    };
    return new RunningSystem(access, child);
  }

  /** Asks the system to stop as Ctrl-C or an init system would, and waits until it has. Answers its exit code. */
  async stop(): Promise<number | null> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return this.#process.exitCode;
    const exit = once(this.#process, "exit", { signal: AbortSignal.timeout(STOP_DEADLINE_MS) });
    this.#process.kill("SIGTERM");
    try {
      await exit;
    } catch (error) {
      this.#process.kill("SIGKILL");
      throw new Error(`the system did not stop within ${STOP_DEADLINE_MS} ms of SIGTERM`, { cause: error });
    }
    return this.#process.exitCode;
  }
}

/** The file beside a home that takes everything the system printed. */
export function transcriptFile(home: string): string {
  return `${home}.out`;
}
