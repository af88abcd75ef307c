import { encodeBase32 } from "../../protocol/base32.ts";
import type { Clock, RandomBytes } from "../../protocol/bytes.ts";
import { type Result, success } from "../../protocol/failures.ts";
import type { TerminalRow } from "../../protocol/host-api.ts";
import type { Log } from "../../service/log.ts";
import type { ManagedMachine, Running } from "../machine.ts";
import { Scrollback } from "./scrollback.ts";
import { type GuestShell, type ShellParts, startShell, type TerminalSize } from "./shell.ts";

/** Somebody who watches a session and types into it: a socket. */
export interface Viewer {
  /** What it can show; null: it takes whatever size the others have. */
  readonly size: TerminalSize | null;
  /** Bytes of output that it was given and has not passed on. */
  readonly backlog: number;
  output(data: Buffer): void;
  /** The session is over. */
  exited(exitCode: number): void;
  /** The shell, which was slow to read, takes input again. */
  inputDrained(): void;
}

export interface SessionSpec {
  readonly number: number;
  readonly name: string;
  readonly slug: string | null;
  readonly linuxUser: string;
  /** null: the login shell. */
  readonly command: string | null;
  readonly replaceOnExit: boolean;
  readonly size: TerminalSize;
}

export interface SessionLimits {
  readonly scrollbackBytes: number;
  /** Once every viewer has more than this to pass on, the guest is no longer read. */
  readonly highWaterBytes: number;
  /** Of a shell that is replaced when it exits: exits in quick succession that are borne. */
  readonly quickExits: number;
  /** An exit is quick when the shell lived for less than this, in milliseconds. */
  readonly quickExitMs: number;
}

export interface SessionParts {
  readonly shell: ShellParts;
  readonly limits: SessionLimits;
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
  readonly log: Log;
  /** Told of every viewer that attaches and of every keystroke: both count as use of the VM. */
  readonly onActivity: (vmId: string) => void;
}

/** Exit code shown when there is none, because the machine went down or the connection broke: what ssh itself answers. */
const LOST_EXIT_CODE = 255;
const INTERRUPT = Buffer.from([3]);

/**
 * One terminal session: a shell in the guest and its last output. It outlives its viewers; a VM that sleeps freezes it, and
 * one that stops ends it. The guest is read as fast as the fastest viewer takes it, and as fast as it writes when nobody watches.
 */
export class TerminalSession {
  readonly spec: SessionSpec;
  readonly #machine: ManagedMachine;
  readonly #parts: SessionParts;
  readonly #scrollback: Scrollback;
  readonly #viewers = new Set<Viewer>();
  readonly #createdAt: number;
  readonly #onExit: (session: TerminalSession) => void;
  #ready: Promise<Result<null>> | null = null;
  #size: TerminalSize;
  #shell: GuestShell | null = null;
  #startedAt = 0;
  #quickExits = 0;
  #paused = false;
  /** No new shell any more. */
  #ending = false;
  #exit: { readonly code: number | null; readonly at: number } | null = null;

  /** `onExit` is called when it is over, once. */
  constructor(spec: SessionSpec, machine: ManagedMachine, parts: SessionParts, onExit: (session: TerminalSession) => void) {
    this.spec = spec;
    this.#machine = machine;
    this.#parts = parts;
    this.#scrollback = new Scrollback(parts.limits.scrollbackBytes);
    this.#createdAt = parts.clock();
    this.#onExit = onExit;
    this.#size = spec.size;
  }

  /** Starts the first shell, waking the machine if it sleeps. Whoever asks again gets the same answer. */
  start(): Promise<Result<null>> {
    this.#ready ??= this.#first();
    return this.#ready;
  }

  get isOver(): boolean {
    return this.#exit !== null;
  }

  /** The last output, at most as much as is kept. */
  get lastOutput(): Buffer {
    return this.#scrollback.read();
  }

  describe(): TerminalRow {
    const { number, name, slug, linuxUser, command } = this.spec;
    const { state } = this.#machine.status();
    return {
      number,
      name,
      slug,
      linuxUser,
      running: this.#exit === null,
      exitCode: this.#exit?.code ?? null,
      exitedAt: this.#exit?.at ?? null,
      ...this.#size,
      exec: command,
      createdAt: this.#createdAt,
      attached: this.#viewers.size,
      suspended: this.#exit === null && (state === "suspending" || state === "suspended"),
    };
  }

  /** Adds a viewer and gives it the last output first. */
  attach(viewer: Viewer): void {
    this.#parts.onActivity(this.#machine.vmId);
    this.#viewers.add(viewer);
    viewer.output(this.#scrollback.read());
    if (this.#exit !== null) viewer.exited(this.#exit.code ?? LOST_EXIT_CODE);
    else this.resized();
  }

  detach(viewer: Viewer): void {
    if (!this.#viewers.delete(viewer)) return;
    this.resized();
    this.balance();
  }

  /** A viewer's size changed: the terminal is as large as the smallest of them. */
  resized(): void {
    const sizes = [...this.#viewers].map((viewer) => viewer.size).filter((size) => size !== null);
    if (sizes.length === 0) return;
    const cols = Math.min(...sizes.map((size) => size.cols));
    const rows = Math.min(...sizes.map((size) => size.rows));
    if (cols === this.#size.cols && rows === this.#size.rows) return;
    this.#size = { cols, rows };
    this.#shell?.resize(this.#size);
  }

  /** Types; wakes a VM that sleeps. False: wait for the viewer's `inputDrained` before typing more. */
  type(data: Buffer): boolean {
    this.#parts.onActivity(this.#machine.vmId);
    const { state } = this.#machine.status();
    // What is typed meanwhile waits in the connection, which the guest's kernel keeps.
    if (state === "suspended" || state === "suspending") void this.#machine.wake();
    return this.#shell?.write(data) ?? true;
  }

  /** SIGINT goes to whatever is in the foreground, as Ctrl-C does; SIGKILL to every process of the terminal. */
  signal(signal: "SIGINT" | "SIGKILL"): void {
    if (signal === "SIGINT") this.type(INTERRUPT);
    else void this.#shell?.kill();
  }

  /** A viewer has passed output on, or left: reads the guest again unless all that are left are still behind. */
  balance(): void {
    const { highWaterBytes } = this.#parts.limits;
    const behind = this.#viewers.size > 0 && [...this.#viewers].every((viewer) => viewer.backlog > highWaterBytes);
    if (behind === this.#paused) return;
    this.#paused = behind;
    this.#shell?.pause(behind);
  }

  /** Ends it for good: kills its processes where the machine runs; a sleeping machine hangs them up when it wakes. */
  async end(): Promise<void> {
    this.#ending = true;
    const shell = this.#shell;
    if (shell === null) return;
    if (this.#machine.running !== null) await shell.kill();
    shell.hangUp();
  }

  /** The machine is down, and everything in it. */
  machineDown(): void {
    this.#ending = true;
    this.#shell?.hangUp();
  }

  async #first(): Promise<Result<null>> {
    const account = await this.#parts.shell.accounts.requireLogin(this.#machine, this.spec.linuxUser);
    if (!account.ok) return account;
    // Twice: a machine that died by itself is noticed by the first try and woken by the second.
    for (let attempt = 1; ; attempt += 1) {
      const running = await this.#machine.wake();
      if (!running.ok) return running;
      const started = await this.#startShell(running.value);
      if (started.ok || attempt === 2 || (await this.#machine.stillRuns())) return started;
    }
  }

  async #startShell(running: Running): Promise<Result<null>> {
    const { shell: parts, clock, randomBytes } = this.#parts;
    const { linuxUser, command } = this.spec;
    const request = { linuxUser, command, size: this.#size, marker: encodeBase32(randomBytes(10)) };
    const startedWith = this.#size;
    this.#startedAt = clock();
    const started = await startShell(parts, this.#machine, running, request, {
      onOutput: (data) => this.#output(data),
      onDrain: () => {
        for (const viewer of this.#viewers) viewer.inputDrained();
      },
      onExit: (code) => this.#exited(code),
    });
    if (!started.ok) return started;
    this.#shell = started.value;
    if (this.#size !== startedWith) started.value.resize(this.#size);
    if (this.#paused) started.value.pause(true);
    if (this.#ending) started.value.hangUp();
    return success(null);
  }

  #output(data: Buffer): void {
    this.#scrollback.push(data);
    for (const viewer of this.#viewers) viewer.output(data);
    this.balance();
  }

  #exited(code: number | null): void {
    this.#shell = null;
    const running = this.#machine.running;
    if (code !== null && running !== null && this.#mayReplace()) void this.#replace(code, running);
    else this.#over(code);
  }

  #mayReplace(): boolean {
    const { quickExits, quickExitMs } = this.#parts.limits;
    const livedMs = this.#parts.clock() - this.#startedAt;
    this.#quickExits = livedMs < quickExitMs ? this.#quickExits + 1 : 0;
    return this.spec.replaceOnExit && !this.#ending && this.#quickExits < quickExits;
  }

  async #replace(code: number, running: Running): Promise<void> {
    const started = await this.#startShell(running);
    if (!started.ok) this.#over(code);
  }

  #over(code: number | null): void {
    this.#exit = { code, at: this.#parts.clock() };
    this.#parts.log.info("terminal session ended", { vm: this.#machine.vmId, session: this.spec.number, exitCode: code });
    for (const viewer of this.#viewers) viewer.exited(code ?? LOST_EXIT_CODE);
    this.#onExit(this);
  }
}
