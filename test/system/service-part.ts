import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";

const POSTERN = fileURLToPath(new URL("../../bin/postern.ts", import.meta.url));

/** What a host or a forwarder says on standard output once it serves. */
const readyLine = z.object({ ready: z.literal(true) });

export interface ServicePartOptions {
  readonly kind: "host" | "forwarder";
  /** Folder of its own: its state is in `<home>/<kind>`, its log in `<home>/<kind>.log`. */
  readonly home: string;
  readonly edgeUrl: string;
  readonly serviceKeyFile: string;
  /** More settings, by their names in the environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** One host agent or forwarder as a process of its own, as an operator runs it; nobody starts it again when it ends. */
export class ServicePart {
  readonly home: string;
  readonly #options: ServicePartOptions;
  #process: ChildProcess | null = null;

  private constructor(options: ServicePartOptions) {
    this.home = options.home;
    this.#options = options;
  }

  static async start(options: ServicePartOptions): Promise<ServicePart> {
    mkdirSync(options.home, { recursive: true, mode: 0o700 });
    const part = new ServicePart(options);
    await part.serve();
    return part;
  }

  /** Starts it, again after `end`; resolves once it serves and rejects with the end of its log when it ends instead. */
  async serve(): Promise<void> {
    const { kind, home, edgeUrl, serviceKeyFile, env = {} } = this.#options;
    const log = openSync(this.logFile, "a", 0o600);
    const state = kind === "host" ? "POSTERN_HOST_STATE" : "POSTERN_FORWARDER_STATE";
    const child = spawn("setpriv", ["--pdeathsig", "TERM", "--", process.execPath, POSTERN, `serve-${kind}`], {
      env: {
        ...process.env,
        POSTERN_EDGE_URL: edgeUrl,
        POSTERN_SERVICE_KEY_FILE: serviceKeyFile,
        [state]: join(home, kind),
        ...env,
      },
      stdio: ["ignore", "pipe", log],
    });
    closeSync(log);
    this.#process = child;
    const { stdout } = child;
    if (stdout === null) throw new Error("its standard output is a pipe");
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: stdout }).on("line", (line) => {
        if (readyLine.safeParse(JSON.parse(line)).success) resolve();
      });
      child.once("error", reject);
      child.once("exit", () => reject(new Error(`the ${kind} ended: ${this.log.slice(-2_000)}`)));
    });
  }

  /** Ends it with a signal and waits until it is gone; nothing to end is no error. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const child = this.#process;
    if (child === null) return;
    this.#process = null;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, "exit");
    child.kill(signal);
    await exit;
  }

  get logFile(): string {
    return join(this.home, `${this.#options.kind}.log`);
  }

  /** Everything it has logged so far. */
  get log(): string {
    return readFileSync(this.logFile, "utf8");
  }
}
