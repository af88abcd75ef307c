import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";

/** What a finished command did. `code` is null when a signal ended it. */
export interface Finished {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Written to standard input, which is then closed; absent: standard input is closed at once. */
  readonly input?: string | Buffer;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Kills the command after this long, in milliseconds. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 50_000;

/** A command that runs in the background, with its output so far. */
export class BackgroundCommand {
  readonly process: ChildProcessWithoutNullStreams;
  readonly finished: Promise<Finished>;
  readonly #stdout: Buffer[] = [];
  #stderr = "";

  constructor(command: string, args: readonly string[], options: Pick<CommandOptions, "env" | "cwd"> = {}) {
    this.process = spawn(command, args, { env: options.env ?? process.env, cwd: options.cwd, stdio: "pipe" });
    this.process.stdout.on("data", (chunk: Buffer) => this.#stdout.push(chunk));
    this.process.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    // The command may end before it has read its input: that is for its exit code to say.
    this.process.stdin.on("error", () => undefined);
    this.finished = new Promise((resolve, reject) => {
      this.process.once("error", reject);
      this.process.once("close", (code) => resolve({ code, stdout: Buffer.concat(this.#stdout), stderr: this.#stderr }));
    });
  }

  /** Standard output so far, as text. */
  get output(): string {
    return Buffer.concat(this.#stdout).toString("utf8");
  }

  /** Standard error so far. */
  get errors(): string {
    return this.#stderr;
  }

  /** Ends the command if it still runs, and waits until it is gone. */
  async kill(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.finished;
  }
}

/** Runs a command to its end and captures what it wrote. */
export async function run(command: string, args: readonly string[], options: CommandOptions = {}): Promise<Finished> {
  const running = new BackgroundCommand(command, args, options);
  const kill = setTimeout(() => running.process.kill("SIGKILL"), options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  running.process.stdin.end(options.input);
  try {
    return await running.finished;
  } finally {
    clearTimeout(kill);
  }
}

/** Quotes a word for a POSIX shell. */
export function shellQuote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
