import { BackgroundCommand, shellQuote } from "./command.ts";
import { until } from "./poll.ts";

/** How long an expected text may take to appear on a terminal, in milliseconds. */
const EXPECT_DEADLINE_MS = 30_000;

/**
 * A command on a terminal of its own, typed at and read from as a person would: `script` of util-linux makes the pty.
 * `setup` is shell text run on that terminal first, for example an `stty`.
 */
export class PtyCommand {
  readonly #command: BackgroundCommand;
  #read = 0;

  constructor(words: readonly string[], setup = "true") {
    const line = `${setup}; exec ${words.map(shellQuote).join(" ")}`;
    this.#command = new BackgroundCommand("script", ["--quiet", "--return", "--flush", "--command", line, "/dev/null"], {
      env: { ...process.env, SHELL: "/bin/sh", TERM: "xterm-256color" },
    });
  }

  /** Everything the terminal showed so far. */
  get screen(): string {
    return this.#command.output;
  }

  /** Waits until the terminal shows something new that matches, and answers the match. */
  async expect(pattern: RegExp): Promise<RegExpExecArray> {
    const matching = until(`the terminal shows ${pattern}`, EXPECT_DEADLINE_MS, () => {
      const match = pattern.exec(this.screen.slice(this.#read));
      if (match === null) return undefined;
      this.#read += match.index + match[0].length;
      return match;
    });
    return matching.catch((cause: unknown) => {
      throw new Error(`the terminal does not show ${pattern}, but:\n${this.screen}`, { cause });
    });
  }

  /** Waits until an access token or a ticket is asked for, as the password or by the ingress's own question. */
  async expectSecretPrompt(): Promise<void> {
    await this.expect(/(password|token)[^\n]*: ?$/i);
  }

  /** Types a line and presses Enter. */
  type(line: string): void {
    this.press(`${line}\r`);
  }

  /** Presses keys, given as the bytes that they send. */
  press(keys: string): void {
    this.#command.process.stdin.write(keys);
  }

  /** Waits for the command's end and answers its exit code. */
  async exitCode(): Promise<number | null> {
    return (await this.#command.finished).code;
  }

  kill(): Promise<void> {
    return this.#command.kill();
  }
}
