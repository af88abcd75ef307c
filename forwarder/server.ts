import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import ssh2 from "ssh2";
import { type Clock, type RandomBytes, toHex } from "../protocol/bytes.ts";
import { forwarderAudience } from "../protocol/ticket.ts";
import type { VerifierLimits } from "../protocol/verifier.ts";
import type { Log } from "../service/log.ts";
import { joinRegion, type Membership, type MembershipTimes } from "../service/membership.ts";
import { Admitter } from "./admission.ts";
import { clientAlgorithms } from "./algorithms.ts";
import { ClientConnection } from "./connection.ts";
import type { ForwarderState } from "./host-keys.ts";
import { ConnectionGate, type Place } from "./limits.ts";
import { socketOf } from "./packet-leg.ts";
import { LiveSessions } from "./sessions.ts";
import type { ForwarderSettings } from "./settings.ts";
import { EdgeTicketSource, type TicketSource } from "./ticket-source.ts";

export interface ForwarderOptions {
  readonly settings: ForwarderSettings;
  readonly state: ForwarderState;
  readonly serviceKey: string;
  readonly version: string;
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly log: Log;
  readonly membershipTimes?: MembershipTimes;
  readonly verifierLimits?: VerifierLimits;
  /** Aborting gives up joining the region. */
  readonly signal?: AbortSignal;
}

/** A running forwarder. */
export interface Forwarder {
  readonly address: string;
  readonly port: number;
  /** Stops accepting, lets live sessions go on for `drainMs` (the setting by default), then ends them and leaves the region. */
  stop(drainMs?: number): Promise<void>;
}

const RESTARTING = "This gateway is about to restart. Please connect again.";

/** Joins the region, then listens. Rejects with `JoinRefused` or the error of listening. */
export async function startForwarder(options: ForwarderOptions): Promise<Forwarder> {
  const { settings, state, serviceKey, clock, log } = options;
  let sessions: LiveSessions | null = null;
  const membership = await joinRegion({
    edgeUrl: settings.POSTERN_EDGE_URL,
    serviceKey,
    hello: { type: "hello", role: "forwarder", id: state.id, version: options.version },
    audience: forwarderAudience,
    clock,
    log,
    onFloor: (floor) => sessions?.onFloor(floor),
    ...(options.membershipTimes === undefined ? {} : { times: options.membershipTimes }),
    ...(options.verifierLimits === undefined ? {} : { limits: options.verifierLimits }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const { verifier } = membership;
  const source = new EdgeTicketSource({
    edgeUrl: settings.POSTERN_EDGE_URL,
    serviceKey,
    timeoutMs: settings.POSTERN_EDGE_TIMEOUT_MS,
    log,
  });
  sessions = new LiveSessions({
    source,
    verifier,
    clock,
    log,
    times: {
      recheckDeadlineMs: settings.POSTERN_RECHECK_DEADLINE_MS,
      recheckRetryMs: settings.POSTERN_RECHECK_RETRY_MS,
      silentRecheckMs: settings.POSTERN_SILENT_RECHECK_MS,
    },
  });
  const door = new Door(options, membership, sessions, source);
  try {
    return await door.open();
  } catch (error) {
    await door.stop(0);
    throw error;
  }
}

/** A connection from accept on, before and after `ssh2` has heard an identification string from it. */
interface Accepted {
  readonly place: Place;
  readonly address: string;
  readonly grace: NodeJS.Timeout;
  connection: ClientConnection | null;
}

class Door {
  readonly #options: ForwarderOptions;
  readonly #membership: Membership;
  readonly #sessions: LiveSessions;
  readonly #admitter: Admitter;
  readonly #gate: ConnectionGate;
  readonly #accepted = new Map<Socket, Accepted>();
  readonly #listener: Server;
  readonly #ssh: ssh2.Server;
  #stopping = false;

  constructor(options: ForwarderOptions, membership: Membership, sessions: LiveSessions, source: TicketSource) {
    this.#options = options;
    this.#membership = membership;
    this.#sessions = sessions;
    const { settings, log } = options;
    this.#admitter = new Admitter({ source, verifier: membership.verifier, forwarderId: options.state.id, log });
    this.#gate = new ConnectionGate(
      {
        maxConnections: settings.POSTERN_SSH_MAX_CONNECTIONS,
        maxPerAddress: settings.POSTERN_SSH_MAX_PER_ADDRESS,
        unauthenticatedStart: settings.POSTERN_SSH_UNAUTHENTICATED_START,
        unauthenticatedFull: settings.POSTERN_SSH_UNAUTHENTICATED_FULL,
        unauthenticatedPerAddress: settings.POSTERN_SSH_UNAUTHENTICATED_PER_ADDRESS,
      },
      options.random,
    );
    this.#ssh = new ssh2.Server(
      {
        hostKeys: [...options.state.hostKeys],
        ident: "Postern",
        algorithms: clientAlgorithms(settings.POSTERN_SSH_CIPHERS),
      },
      (ssh) => this.#identified(ssh),
    );
    this.#ssh.on("error", (error: Error) => log.error("ssh server failed", { error: error.message }));
    this.#listener = createServer(
      { noDelay: true, keepAlive: true, keepAliveInitialDelay: settings.POSTERN_TCP_KEEPALIVE_MS },
      (socket) => this.#accept(socket),
    );
  }

  async open(): Promise<Forwarder> {
    const { address, port } = this.#options.settings.POSTERN_SSH_LISTEN;
    this.#listener.listen({ port, ...(address === "" ? {} : { host: address }) });
    await once(this.#listener, "listening");
    this.#listener.on("error", (error) => this.#options.log.error("listener failed", { error: error.message }));
    const bound = this.#listener.address();
    if (bound === null || typeof bound === "string") throw new Error("the listener has no address");
    return { address: bound.address, port: bound.port, stop: (drainMs) => this.stop(drainMs) };
  }

  async stop(drainMs = this.#options.settings.POSTERN_DRAIN_MS): Promise<void> {
    if (!this.#stopping) {
      this.#stopping = true;
      this.#listener.close();
      for (const { connection } of this.#accepted.values()) connection?.notify(RESTARTING);
      for (const [socket, accepted] of this.#accepted) if (accepted.connection?.loggedIn !== true) this.#end(socket, accepted);
    }
    await this.#emptied(drainMs);
    for (const [socket, accepted] of this.#accepted) this.#end(socket, accepted);
    await this.#emptied(this.#options.settings.POSTERN_CLOSE_LINGER_MS);
    for (const socket of this.#accepted.keys()) socket.destroy();
    this.#sessions.close();
    this.#membership.close();
  }

  #accept(socket: Socket): void {
    const address = socket.remoteAddress ?? "unknown";
    const place = this.#stopping ? null : this.#gate.admit(address);
    if (place === null) {
      socket.destroy();
      return;
    }
    const grace = setTimeout(() => this.#graceOver(socket), this.#options.settings.POSTERN_SSH_LOGIN_GRACE_MS);
    this.#accepted.set(socket, { place, address, grace, connection: null });
    socket.on("close", () => {
      clearTimeout(grace);
      place.release();
      this.#accepted.delete(socket);
    });
    this.#ssh.injectSocket(socket);
  }

  #identified(ssh: ssh2.Connection): void {
    const socket = socketOf(ssh);
    const accepted = socket === null ? undefined : this.#accepted.get(socket);
    if (socket === null || accepted === undefined) {
      ssh.end();
      return;
    }
    const { settings, randomBytes, log } = this.#options;
    accepted.connection = new ClientConnection({
      ssh,
      socket,
      address: accepted.address,
      admitter: this.#admitter,
      sessions: this.#sessions,
      maxAttempts: settings.POSTERN_SSH_MAX_ATTEMPTS,
      spliceLimits: {
        wakeQueueBytes: settings.POSTERN_WAKE_QUEUE_BYTES,
        highWaterBytes: settings.POSTERN_SPLICE_HIGH_WATER_BYTES,
      },
      times: {
        hostConnectTimeoutMs: settings.POSTERN_HOST_CONNECT_TIMEOUT_MS,
        wakeTimeoutMs: settings.POSTERN_WAKE_TIMEOUT_MS,
        targetLoginTimeoutMs: settings.POSTERN_TARGET_LOGIN_TIMEOUT_MS,
        closeLingerMs: settings.POSTERN_CLOSE_LINGER_MS,
      },
      randomBytes,
      log: log.child({ session: toHex(randomBytes(6)), client: accepted.address }),
      onLogin: () => {
        clearTimeout(accepted.grace);
        accepted.place.loggedIn();
      },
    });
  }

  #graceOver(socket: Socket): void {
    const connection = this.#accepted.get(socket)?.connection;
    if (connection === null || connection === undefined) socket.destroy();
    else connection.end("The login took too long.");
  }

  #end(socket: Socket, { connection }: Accepted): void {
    if (connection === null) socket.destroy();
    else connection.end(RESTARTING);
  }

  #emptied(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const deadline = setTimeout(done, ms);
      const poll = setInterval(() => this.#gate.connections === 0 && done(), 20);
      function done(): void {
        clearTimeout(deadline);
        clearInterval(poll);
        resolve();
      }
    });
  }
}
