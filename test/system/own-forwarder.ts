import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { type Finished, run } from "./command.ts";
import type { SystemAccess } from "./running-system.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const POSTERN = ["bin/postern.ts"];

const readyLine = z.object({ ready: z.literal(true), address: z.string(), port: z.int() });

/**
 * A second forwarder at the edge of a started system, in a process of its own: the same command as in production, with
 * settings and host keys of a test's own. What it logs is in its folder.
 */
export class OwnForwarder {
  readonly stateFolder: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #log: string;
  #process: ChildProcess | null = null;

  constructor(folder: string, system: SystemAccess, env: Readonly<Record<string, string>>) {
    this.stateFolder = join(folder, "state");
    this.#log = join(folder, "log");
    mkdirSync(this.stateFolder, { recursive: true, mode: 0o700 });
    const keyFile = join(folder, "service.key");
    writeFileSync(keyFile, system.serviceKey, { mode: 0o600 });
    this.#env = {
      ...process.env,
      ...env,
      POSTERN_EDGE_URL: system.apiUrl,
      POSTERN_SERVICE_KEY_FILE: keyFile,
      POSTERN_FORWARDER_STATE: this.stateFolder,
      POSTERN_SSH_LISTEN: "127.0.0.1:0",
      POSTERN_DRAIN_MS: "0",
    };
  }

  /** Starts it, and answers where it listens once it is in the region. Throws when it ends instead; its log says why. */
  async start(): Promise<{ sshHost: string; sshPort: number }> {
    const child = spawn(process.execPath, [...POSTERN, "serve-forwarder"], {
      cwd: root,
      env: this.#env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = child;
    child.stderr.pipe(createWriteStream(this.#log, { flags: "a" }));
    for await (const line of createInterface({ input: child.stdout })) {
      const { address, port } = readyLine.parse(JSON.parse(line));
      return { sshHost: address, sshPort: port };
    }
    throw new Error(`the forwarder did not start; see ${this.#log}`);
  }

  async stop(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, "exit");
    child.kill("SIGTERM");
    await exit;
  }

  /** `postern host-keys …` on its state. */
  hostKeys(...args: readonly string[]): Promise<Finished> {
    return run(process.execPath, [join(root, "bin/postern.ts"), "host-keys", ...args], { env: this.#env });
  }
}
