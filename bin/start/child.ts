import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, type WriteStream } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

export interface ChildOptions {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly env: NodeJS.ProcessEnv;
  /** File that takes what the child writes to standard error. */
  readonly logFile: string;
  /** Each line that the child writes to standard output, or to descriptor 3 when `controlPipe` is set. */
  readonly onLine: (line: string) => void;
  readonly controlPipe?: boolean;
  /** How long it may take to end by itself when asked, in milliseconds, before it is killed. */
  readonly stopTimeoutMs: number;
  /** Told when the child ends without having been asked to. */
  readonly onCrash: (detail: string) => void;
}

/** Wait before a crashed child is started again, in milliseconds; doubles up to the second figure. */
const RESTART_MIN_MS = 500;
const RESTART_MAX_MS = 10_000;

/**
 * A long-running child process: started again when it crashes, ended when asked, and ended by the kernel if this process
 * dies without a word (PR_SET_PDEATHSIG, through setpriv).
 */
export class SupervisedChild {
  readonly #options: ChildOptions;
  readonly #log: WriteStream;
  #process: ChildProcess | null = null;
  #stopping = false;
  #restartMs = RESTART_MIN_MS;
  #restart: NodeJS.Timeout | null = null;

  constructor(options: ChildOptions) {
    this.#options = options;
    this.#log = createWriteStream(options.logFile, { flags: "a", mode: 0o600 });
  }

  start(): void {
    const { command, env, controlPipe, onLine } = this.#options;
    // Its own process group: Ctrl-C in the terminal reaches only the supervisor, which stops the parts in order.
    const child = spawn("setpriv", ["--pdeathsig", "TERM", "--", ...command], {
      env,
      detached: true,
      stdio: ["ignore", "pipe", "pipe", ...(controlPipe ? (["pipe"] as const) : [])],
    });
    this.#process = child;
    const lines = controlPipe ? (child.stdio[3] as Readable) : child.stdout;
    if (lines !== null) createInterface({ input: lines }).on("line", onLine);
    if (controlPipe) child.stdout?.pipe(this.#log, { end: false });
    child.stderr?.pipe(this.#log, { end: false });
    child.on("error", (error) => this.#crashed(error.message));
    child.on("exit", (code, signal) => {
      this.#process = null;
      this.#crashed(signal === null ? `exit status ${code}` : `signal ${signal}`);
    });
  }

  /** Ends the child: SIGTERM, then SIGKILL after `stopTimeoutMs`. Resolves when it is gone. */
  stop(): Promise<void> {
    this.#stopping = true;
    if (this.#restart !== null) clearTimeout(this.#restart);
    const child = this.#process;
    if (child === null) {
      this.#log.end();
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const kill = setTimeout(() => child.kill("SIGKILL"), this.#options.stopTimeoutMs);
      child.on("exit", () => {
        clearTimeout(kill);
        this.#log.end();
        resolve();
      });
      child.kill("SIGTERM");
    });
  }

  #crashed(detail: string): void {
    if (this.#stopping) return;
    this.#options.onCrash(detail);
    this.#restart = setTimeout(() => this.start(), this.#restartMs);
    this.#restartMs = Math.min(this.#restartMs * 2, RESTART_MAX_MS);
  }
}
