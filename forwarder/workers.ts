import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Log } from "../service/log.ts";

const WORKER = fileURLToPath(new URL("worker.ts", import.meta.url));

/** Wait before a worker that died is started again, in milliseconds. */
const RESTART_MS = 1_000;

/**
 * Several forwarder processes on one port (`SO_REUSEPORT`), so that several cores work: each one is a forwarder of its
 * own, and limits hold for each. `onReady` is called once, with the first worker's line, when all of them listen.
 */
export class Workers {
  readonly #env: NodeJS.ProcessEnv;
  readonly #log: Log;
  readonly #children = new Set<ChildProcess>();
  #stopping = false;

  constructor(env: NodeJS.ProcessEnv, log: Log) {
    this.#env = { ...env, POSTERN_FORWARDER_WORKERS: "1", POSTERN_SSH_REUSE_PORT: "1" };
    this.#log = log;
  }

  /** Starts them; resolves with the ready line of the first, rejects when one ends before it is ready. */
  async start(count: number): Promise<string> {
    const lines = await Promise.all(Array.from({ length: count }, (_, index) => this.#launch(index)));
    const [first] = lines;
    if (first === undefined) throw new Error("there is no worker");
    return first;
  }

  /** Passes a signal on; resolves when every worker has drained and ended. */
  async stop(signal: NodeJS.Signals): Promise<void> {
    this.#stopping = true;
    const ends = [...this.#children].map((child) => once(child, "exit"));
    for (const child of this.#children) child.kill(signal);
    await Promise.all(ends);
  }

  async #launch(index: number): Promise<string> {
    const child = spawn(process.execPath, [WORKER], {
      env: { ...this.#env, POSTERN_FORWARDER_WORKER: String(index) },
      stdio: ["ignore", "pipe", "inherit", "ipc"],
    });
    this.#children.add(child);
    let ready = false;
    child.on("exit", (code) => {
      this.#children.delete(child);
      if (this.#stopping || !ready) return;
      this.#log.error("a worker ended; starting it again", { worker: index, code });
      setTimeout(() => {
        if (this.#stopping) return;
        this.#launch(index).catch((error: unknown) => this.#log.error("a worker did not start", { error: String(error) }));
      }, RESTART_MS);
    });
    if (child.stdout === null) throw new Error("a worker has no output");
    const lines = createInterface(child.stdout);
    const line = await Promise.race([
      once(lines, "line").then(([text]) => String(text)),
      once(child, "exit").then(() => {
        throw new Error(`worker ${index} ended before it was ready`);
      }),
    ]);
    ready = true;
    return line;
  }
}
