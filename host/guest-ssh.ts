import type { Client } from "ssh2";
import type { RandomBytes } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import type { Log } from "../service/log.ts";
import { generateSshKeyPair, type SshKeyPair } from "../service/ssh-keys.ts";
import { type LoginLimits, logIn } from "./guest-login.ts";
import type { PublishedKeys } from "./keys.ts";
import type { ManagedMachine, Running } from "./machine.ts";
import { type ReleaseSlot, Slots } from "./slots.ts";

export interface GuestSshLimits extends LoginLimits {
  /** An unused connection is closed after this many milliseconds. */
  readonly idleMs: number;
  /** Channels on one connection. */
  readonly channels: number;
  /** Operations in one VM at once, and how many may wait for their turn. */
  readonly operations: number;
  readonly waiting: number;
}

/**
 * Opens one channel on a connection. Called again on another connection if the guest's sshd would not open it; must attach
 * the channel's listeners before it resolves, since what the guest sent may already be waiting.
 */
export type StartChannel<T> = (client: Client, down: AbortSignal) => Promise<T>;

/** An open channel and its share of a connection. */
export interface GuestChannel<T> {
  readonly channel: T;
  /** Aborts when the machine goes down under the operation. */
  readonly down: AbortSignal;
  /** Must be called when the channel is closed; repeating it changes nothing. */
  release(): void;
}

interface Connection {
  readonly running: Running;
  readonly client: Promise<Result<Client>>;
  used: number;
  /** No more channels here: its sshd allows fewer than ours, or it broke. */
  full: boolean;
  idle: NodeJS.Timeout | null;
}

interface Lease {
  readonly client: Client;
  readonly connection: Connection;
  readonly release: () => void;
}

const MAX_OPEN_ATTEMPTS = 3;

/**
 * The host's own SSH connections into guests, per VM and Linux user, reused while something uses them. The key pair lives
 * in this process's memory only. A Linux user's new groups show on a new connection, as with any SSH.
 */
export class GuestSsh {
  readonly #pair: SshKeyPair;
  readonly #keys: PublishedKeys;
  readonly #limits: GuestSshLimits;
  readonly #log: Log;
  readonly #connections = new Map<string, Set<Connection>>();
  readonly #slots = new WeakMap<ManagedMachine, Slots>();

  constructor(keys: PublishedKeys, limits: GuestSshLimits, randomBytes: RandomBytes, log: Log) {
    this.#pair = generateSshKeyPair(randomBytes);
    this.#keys = keys;
    this.#limits = limits;
    this.#log = log;
  }

  /** Waits for a turn among the machine's operations; `vm-busy` when too many wait. Must be given back. */
  async takeTurn(machine: ManagedMachine): Promise<Result<ReleaseSlot>> {
    const slots = this.#slots.get(machine) ?? new Slots(this.#limits.operations, this.#limits.waiting);
    this.#slots.set(machine, slots);
    const turn = await slots.take();
    return turn === null ? failure("vm-busy", "Too many operations wait for this VM. Try again later.") : success(turn);
  }

  /** Wakes the machine if it sleeps and opens a channel as `linuxUser`. The caller must have a turn, or a limit of its own. */
  async open<T>(machine: ManagedMachine, linuxUser: string, start: StartChannel<T>): Promise<Result<GuestChannel<T>>> {
    for (let attempt = 1; ; attempt += 1) {
      const lease = await this.#lease(machine, linuxUser);
      if (!lease.ok) return lease;
      const { client, connection, release } = lease.value;
      const { down } = connection.running;
      try {
        return success({ channel: await start(client, down), down, release });
      } catch (error) {
        release();
        if (down.aborted) return failure("vm-not-running", "The VM was stopped or suspended under the operation.");
        if (wasNeverOpened(error)) connection.full = true;
        if (connection.full && attempt < MAX_OPEN_ATTEMPTS) continue;
        this.#log.warn("guest opened no channel", { vm: machine.vmId, user: linuxUser, error: String(error) });
        return failure("host-unavailable", "The VM's sshd did not take the operation. Try again.");
      }
    }
  }

  /**
   * Logs in at a running machine on a connection of the caller's own, which neither idleness nor the machine's sleep ends:
   * the guest's kernel keeps it. The caller ends it. Wakes nothing and takes no turn.
   */
  async connect(machine: ManagedMachine, linuxUser: string, running: Running): Promise<Result<Client>> {
    const login = new AbortController();
    const giveUp = () => login.abort();
    running.down.addEventListener("abort", giveUp, { once: true });
    if (running.down.aborted) giveUp();
    const client = await this.#dial(machine, linuxUser, { ...running, down: login.signal }, { ...this.#limits, keepaliveMs: 0 });
    running.down.removeEventListener("abort", giveUp);
    return client;
  }

  /** Ends every connection. */
  async close(): Promise<void> {
    const all = [...this.#connections.values()].flatMap((set) => [...set]);
    this.#connections.clear();
    await Promise.all(
      all.map(async (connection) => {
        if (connection.idle !== null) clearTimeout(connection.idle);
        const client = await connection.client;
        if (client.ok) client.value.destroy();
      }),
    );
  }

  async #lease(machine: ManagedMachine, linuxUser: string): Promise<Result<Lease>> {
    // Twice: a machine that died by itself is noticed by the first try and woken by the second.
    for (let attempt = 1; ; attempt += 1) {
      const running = await machine.wake();
      if (!running.ok) return running;
      const connection = this.#take(machine, linuxUser, running.value);
      const client = await connection.client;
      if (client.ok) {
        let held = true;
        const release = () => {
          if (held) this.#giveBack(machine, linuxUser, connection);
          held = false;
        };
        return success({ client: client.value, connection, release });
      }
      const stillRuns = await machine.stillRuns();
      if (stillRuns || attempt === 2) return client;
    }
  }

  #take(machine: ManagedMachine, linuxUser: string, running: Running): Connection {
    const place = placeOf(machine.vmId, linuxUser);
    const known = this.#connections.get(place) ?? new Set();
    this.#connections.set(place, known);
    for (const connection of known) {
      if (connection.full || connection.running !== running || connection.used >= this.#limits.channels) continue;
      connection.used += 1;
      if (connection.idle !== null) clearTimeout(connection.idle);
      connection.idle = null;
      return connection;
    }
    const connection: Connection = { running, client: this.#dial(machine, linuxUser, running), used: 1, full: false, idle: null };
    known.add(connection);
    void connection.client.then((client) => {
      if (client.ok) client.value.once("close", () => this.#forget(place, connection));
      else this.#forget(place, connection);
    });
    return connection;
  }

  async #dial(
    machine: ManagedMachine,
    linuxUser: string,
    running: Running,
    limits: LoginLimits = this.#limits,
  ): Promise<Result<Client>> {
    const login = await logIn(machine, running, linuxUser, this.#pair, this.#keys, limits);
    if (!login.ok) this.#log.warn("could not log in at guest", { vm: machine.vmId, user: linuxUser, why: login.why });
    return login.ok ? success(login.value) : { ok: false, failure: login.failure };
  }

  #giveBack(machine: ManagedMachine, linuxUser: string, connection: Connection): void {
    connection.used -= 1;
    if (connection.used > 0) return;
    connection.idle = setTimeout(() => {
      this.#forget(placeOf(machine.vmId, linuxUser), connection);
      void connection.client.then((client) => client.ok && client.value.end());
    }, this.#limits.idleMs);
    connection.idle.unref();
  }

  #forget(place: string, connection: Connection): void {
    if (connection.idle !== null) clearTimeout(connection.idle);
    const known = this.#connections.get(place);
    known?.delete(connection);
    if (known?.size === 0) this.#connections.delete(place);
  }
}

/** Whether an error says that nothing has begun in the guest, so that trying again cannot do it twice. */
function wasNeverOpened(error: unknown): boolean {
  const { reason, message } = error as { reason?: unknown; message?: unknown };
  // `ssh2` puts the reason code of SSH_MSG_CHANNEL_OPEN_FAILURE (RFC 4254 section 5.1) into `reason`.
  return typeof reason === "number" || message === "Not connected";
}

function placeOf(vmId: string, linuxUser: string): string {
  return `${vmId}/${linuxUser}`;
}
