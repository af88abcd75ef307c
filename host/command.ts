import { constants } from "node:os";
import type { Client, ClientChannel } from "ssh2";
import { type Failure, failure, type Result, success } from "../protocol/failures.ts";
import type { ExecAnswer } from "../protocol/host-api.ts";

export interface CommandRequest {
  readonly command: string;
  readonly env: Readonly<Record<string, string>>;
  /** Bytes for standard input, then end of file; null: end of file at once. */
  readonly stdin: Buffer | null;
  readonly timeoutMs: number;
}

export interface CommandLimits {
  /** Most bytes of standard output and standard error together. */
  readonly outputBytes: number;
  /** Longest pause of output after the command ended, in milliseconds, before the rest is given up. */
  readonly drainMs: number;
  /** Longest wait, in milliseconds, for a killed command to be gone. */
  readonly killGraceMs: number;
}

/** What can end a command from outside, and how it is then ended. */
export interface CommandSignals {
  /** The caller went away. */
  readonly caller: AbortSignal;
  /** The machine went down. */
  readonly down: AbortSignal;
  /** Kills the command's processes in the guest. */
  readonly kill: () => void;
}

/** Starts a command by the Linux user's login shell. Rejects with `ssh2`'s error if the guest did not take it. */
export function startCommand(
  client: Client,
  request: CommandRequest,
  limits: CommandLimits,
  signals: CommandSignals,
): Promise<CommandRun> {
  return new Promise((resolve, reject) => {
    client.exec(request.command, { env: request.env }, (error, channel) => {
      if (error !== undefined) reject(error);
      else resolve(new CommandRun(channel, request, limits, signals));
    });
  });
}

/**
 * A running command. `result`: a command that fails is an answer; a failure is what kept the command from ending by itself:
 * `exec-timed-out` (with what it wrote so far), `exec-output-too-large`, `vm-not-running` (the machine went down),
 * `host-unavailable` (the connection broke).
 */
export class CommandRun {
  readonly result: Promise<Result<ExecAnswer>>;
  readonly #channel: ClientChannel;
  readonly #request: CommandRequest;
  readonly #limits: CommandLimits;
  readonly #signals: CommandSignals;
  readonly #answer: (result: Result<ExecAnswer>) => void;
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #onAbort = () => this.#kill(interrupted(this.#signals).failure);
  #drain: NodeJS.Timeout | null = null;
  #bytes = 0;
  #status: number | null = null;
  /** Set once the command is being killed: what will be answered. */
  #verdict: Failure | null = null;
  #ended = false;

  constructor(channel: ClientChannel, request: CommandRequest, limits: CommandLimits, signals: CommandSignals) {
    this.#channel = channel;
    this.#request = request;
    this.#limits = limits;
    this.#signals = signals;
    const { promise, resolve } = Promise.withResolvers<Result<ExecAnswer>>();
    this.result = promise;
    this.#answer = resolve;
    this.#later(this.#request.timeoutMs, () => this.#timeOut());
    this.#signals.caller.addEventListener("abort", this.#onAbort, { once: true });
    this.#signals.down.addEventListener("abort", this.#onAbort, { once: true });
    channel.on("data", (data: Buffer) => this.#collect(this.#stdout, data));
    channel.stderr.on("data", (data: Buffer) => this.#collect(this.#stderr, data));
    channel.on("exit", (status: number | null, signal?: string) => this.#exited(status, signal));
    channel.on("close", () => this.#finish());
    channel.on("error", () => this.#finish());
    // A command that reads none of its input makes the write fail; that is the command's right.
    channel.stdin.on("error", () => undefined);
    if (this.#request.stdin === null) channel.end();
    else channel.end(this.#request.stdin);
    if (signals.caller.aborted || signals.down.aborted) this.#onAbort();
  }

  #collect(into: Buffer[], data: Buffer): void {
    if (this.#verdict !== null) return;
    const room = this.#limits.outputBytes - this.#bytes;
    this.#bytes += data.length;
    if (data.length <= room) into.push(data);
    else {
      this.#kill({
        kind: "exec-output-too-large",
        message: `The command wrote more than ${this.#limits.outputBytes} bytes and was killed.`,
        details: { limitBytes: this.#limits.outputBytes },
      });
    }
    this.#drain?.refresh();
  }

  #exited(status: number | null, signal: string | undefined): void {
    this.#status = status ?? 128 + signalNumber(signal);
    // A background child may hold the output open for ever; what it writes later is nobody's answer.
    this.#drain = this.#later(this.#limits.drainMs, () => this.#finish());
  }

  #timeOut(): void {
    const { timeoutMs } = this.#request;
    const message = `The command did not end within ${timeoutMs} ms and was killed.`;
    this.#kill({ kind: "exec-timed-out", message, details: { timeoutMs, ...this.#written() } });
  }

  #kill(verdict: Failure): void {
    if (this.#ended || this.#verdict !== null) return;
    this.#verdict = verdict;
    if (this.#signals.down.aborted) {
      this.#finish();
      return;
    }
    this.#signals.kill();
    this.#later(this.#limits.killGraceMs, () => this.#finish());
  }

  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#signals.caller.removeEventListener("abort", this.#onAbort);
    this.#signals.down.removeEventListener("abort", this.#onAbort);
    this.#channel.close();
    if (this.#verdict !== null) this.#answer({ ok: false, failure: this.#verdict });
    else if (this.#status === null) this.#answer(broken());
    else this.#answer(success({ ...this.#written(), statusCode: this.#status }));
  }

  #written(): { stdout: string; stderr: string } {
    return { stdout: Buffer.concat(this.#stdout).toString("utf8"), stderr: Buffer.concat(this.#stderr).toString("utf8") };
  }

  #later(ms: number, action: () => void): NodeJS.Timeout {
    const timer = setTimeout(action, ms);
    this.#timers.add(timer);
    return timer;
  }
}

function interrupted({ down }: CommandSignals): { readonly ok: false; readonly failure: Failure } {
  if (down.aborted) return failure("vm-not-running", "The VM was stopped or suspended while the command ran.");
  return failure("bad-request", "The caller went away before the command ended.");
}

function broken(): Result<never> {
  return failure("host-unavailable", "The connection to the VM broke while the command ran. It may or may not have ended.");
}

/** A signal's number by its name, such as `SIGKILL`; 0 for one that is not known here. */
export function signalNumber(name: string | undefined): number {
  const numbers: Readonly<Record<string, number>> = constants.signals;
  return numbers[name ?? ""] ?? 0;
}
