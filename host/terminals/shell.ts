import type { Client, ClientChannel } from "ssh2";
import { failure, type Result, success } from "../../protocol/failures.ts";
import type { Accounts } from "../accounts.ts";
import { signalNumber } from "../command.ts";
import type { GuestSsh } from "../guest-ssh.ts";
import type { ManagedMachine, Running } from "../machine.ts";

/** Size of a terminal in characters. */
export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

export interface ShellRequest {
  readonly linuxUser: string;
  /** Run by the login shell; null: the login shell itself, interactive. */
  readonly command: string | null;
  readonly size: TerminalSize;
  /** Told to the shell's environment, so that its processes can be found. */
  readonly marker: string;
}

export interface ShellEvents {
  onOutput(data: Buffer): void;
  /** The shell took all its input. */
  onDrain(): void;
  /** Once, last. Null: the connection broke, or the machine went down. */
  onExit(exitCode: number | null): void;
}

export interface ShellParts {
  readonly guests: GuestSsh;
  readonly accounts: Accounts;
  /** Longest pause of output after the shell ended, in milliseconds, before the rest is given up. */
  readonly drainMs: number;
  /** Longest wait, in milliseconds, for a killed shell to be gone. */
  readonly killGraceMs: number;
}

/** Environment variable that every process of a terminal inherits. */
const MARKER = "POSTERN_TERMINAL_ID";
/** What terminals in browsers and SDKs emulate. */
const TERM = "xterm-256color";

/** Starts a shell with a terminal in a guest, on an SSH connection of its own. Wakes nothing. */
export async function startShell(
  parts: ShellParts,
  machine: ManagedMachine,
  running: Running,
  request: ShellRequest,
  events: ShellEvents,
): Promise<Result<GuestShell>> {
  const client = await parts.guests.connect(machine, request.linuxUser, running);
  if (!client.ok) return client;
  try {
    return success(await openShell(parts, machine, client.value, request, events));
  } catch {
    client.value.destroy();
    return failure("host-unavailable", "The VM's sshd did not open a terminal. Try again.");
  }
}

function openShell(
  parts: ShellParts,
  machine: ManagedMachine,
  client: Client,
  request: ShellRequest,
  events: ShellEvents,
): Promise<GuestShell> {
  const { command, size, marker } = request;
  const pty = { ...size, width: 0, height: 0, term: TERM };
  const env = { [MARKER]: marker };
  return new Promise((resolve, reject) => {
    const opened = (error: Error | undefined, channel: ClientChannel) => {
      if (error !== undefined) reject(error);
      // At once: what the guest sent may already be waiting for listeners.
      else resolve(new GuestShell(parts, machine, client, channel, request, events));
    };
    if (command === null) client.shell(pty, { env }, opened);
    else client.exec(command, { pty, env }, opened);
  });
}

/** One run of a shell with a terminal in a guest. */
export class GuestShell {
  readonly #parts: ShellParts;
  readonly #machine: ManagedMachine;
  readonly #client: Client;
  readonly #channel: ClientChannel;
  readonly #request: ShellRequest;
  readonly #events: ShellEvents;
  #status: number | null = null;
  #drain: NodeJS.Timeout | null = null;
  #kill: NodeJS.Timeout | null = null;
  #ended = false;

  constructor(
    parts: ShellParts,
    machine: ManagedMachine,
    client: Client,
    channel: ClientChannel,
    request: ShellRequest,
    events: ShellEvents,
  ) {
    this.#parts = parts;
    this.#machine = machine;
    this.#client = client;
    this.#channel = channel;
    this.#request = request;
    this.#events = events;
    channel.on("data", (data: Buffer) => this.#output(data));
    channel.stderr.on("data", (data: Buffer) => this.#output(data));
    channel.on("drain", () => events.onDrain());
    channel.on("exit", (status: number | null, signal?: string) => this.#exited(status, signal));
    channel.on("close", () => this.#finish());
    // A broken connection shows as a close too.
    channel.on("error", () => undefined);
    client.once("close", () => this.#finish());
  }

  /** Types. False: the guest is slow to read; wait for `onDrain` before typing more. */
  write(data: Buffer): boolean {
    return this.#channel.writable ? this.#channel.write(data) : true;
  }

  resize({ cols, rows }: TerminalSize): void {
    this.#channel.setWindow(rows, cols, 0, 0);
  }

  /** Stops reading, so that the guest blocks once its window is full, or goes on. A shell that has ended is read to its end. */
  pause(paused: boolean): void {
    if (paused && this.#drain === null) this.#channel.pause();
    else this.#channel.resume();
  }

  /** Kills every process of the terminal. A shell that cannot be found is hung up instead. */
  async kill(): Promise<void> {
    const { accounts, killGraceMs } = this.#parts;
    this.#kill ??= setTimeout(() => this.hangUp(), killGraceMs);
    await accounts.killSession(this.#machine, this.#request.linuxUser, `${MARKER}=${this.#request.marker}`);
  }

  /** Ends the connection: the guest's sshd hangs the terminal up (SIGHUP). A sleeping guest does so when it wakes. */
  hangUp(): void {
    this.#finish();
  }

  #output(data: Buffer): void {
    if (this.#ended) return;
    this.#drain?.refresh();
    this.#events.onOutput(data);
  }

  #exited(status: number | null, signal: string | undefined): void {
    this.#status = status ?? 128 + signalNumber(signal);
    // A child that ignores SIGHUP may hold the terminal open for ever; what it writes later is nobody's.
    this.#drain = setTimeout(() => this.#finish(), this.#parts.drainMs);
    this.#channel.resume();
  }

  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#drain !== null) clearTimeout(this.#drain);
    if (this.#kill !== null) clearTimeout(this.#kill);
    this.#client.end();
    this.#events.onExit(this.#status);
  }
}
