import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import type ssh2 from "ssh2";
import type { Clock, RandomBytes } from "../protocol/bytes.ts";
import { newObjectName } from "../protocol/ids.ts";
import { forwarderAudience } from "../protocol/ticket.ts";
import type { VerifierLimits } from "../protocol/verifier.ts";
import type { ServiceCredential } from "../service/credential.ts";
import { limitLines } from "../service/limited-log.ts";
import { LiveSessions } from "../service/live-sessions.ts";
import type { Log } from "../service/log.ts";
import { joinRegion, type Membership, type MembershipTimes } from "../service/membership.ts";
import { type MetricsServer, serveMetrics } from "../service/metrics-server.ts";
import { Admitter } from "./admission.ts";
import { ForwarderMetrics } from "./forwarder-metrics.ts";
import { HostKeyRing } from "./host-key-proof.ts";
import type { ForwarderState } from "./host-keys.ts";
import { ConnectionGate } from "./limits.ts";
import { socketOf } from "./packet-leg.ts";
import { SessionRegister, type SessionsMessage } from "./session-register.ts";
import type { ForwarderSettings } from "./settings.ts";
import { SshServers } from "./ssh-servers.ts";
import { EdgeTicketSource, type TicketSource } from "./ticket-source.ts";
import { Visitor, type VisitorServices } from "./visitor.ts";

export interface ForwarderOptions {
  readonly settings: ForwarderSettings;
  readonly state: ForwarderState;
  readonly credential: ServiceCredential;
  readonly version: string;
  readonly clock: Clock;
  /** Milliseconds since any moment, by a clock that nobody sets; absent: the process's own. */
  readonly monotonic?: Clock;
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
  /** Where metrics are served; null when they are not. */
  readonly metricsPort: number | null;
  /** Stops accepting, lets live sessions go on for `drainMs` (the setting by default), then ends them and leaves the region. */
  stop(drainMs?: number): Promise<void>;
}

const RESTARTING = "This gateway is about to restart. Please connect again.";

/** Joins the region, then listens. Rejects with `JoinRefused` or the error of listening. */
export async function startForwarder(options: ForwarderOptions): Promise<Forwarder> {
  const { settings, credential, clock, randomBytes, log } = options;
  // Of this process: while one drains, the next one on the same state folder must not pass for it.
  const id = newObjectName(randomBytes);
  let live: LiveSessions | null = null;
  let sessions: SessionRegister | null = null;
  const membership = await joinRegion({
    edgeUrl: settings.POSTERN_EDGE_URL,
    credential,
    hello: { type: "hello", role: "forwarder", id, version: options.version },
    audience: forwarderAudience,
    clock,
    log,
    onFloor: (floor) => live?.onFloor(floor),
    onDoubt: () => live?.recheckAll(),
    onWelcome: () => sessions?.tellAll(),
    onCloseSession: (session) => sessions?.close(session),
    ...(options.monotonic === undefined ? {} : { monotonic: options.monotonic }),
    ...(options.membershipTimes === undefined ? {} : { times: options.membershipTimes }),
    ...(options.verifierLimits === undefined ? {} : { limits: options.verifierLimits }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const source = new EdgeTicketSource({
    edgeUrl: settings.POSTERN_EDGE_URL,
    credential,
    timeoutMs: settings.POSTERN_EDGE_TIMEOUT_MS,
    log,
  });
  live = new LiveSessions({
    source,
    verifier: membership.verifier,
    clock,
    log,
    times: {
      recheckDeadlineMs: settings.POSTERN_RECHECK_DEADLINE_MS,
      recheckRetryMs: settings.POSTERN_RECHECK_RETRY_MS,
      silentRecheckMs: settings.POSTERN_SILENT_RECHECK_MS,
      unconfirmedMs: settings.POSTERN_UNCONFIRMED_SESSION_MS,
    },
    ...(options.monotonic === undefined ? {} : { monotonic: options.monotonic }),
  });
  const send = (message: SessionsMessage) => membership.report(message);
  sessions = new SessionRegister({ live, clock, send, gatherMs: settings.POSTERN_SESSION_REPORT_MS });
  const door = new Door(options, { id, membership, live, sessions, source });
  try {
    return await door.open();
  } catch (error) {
    await door.stop(0);
    throw error;
  }
}

interface DoorParts {
  /** The forwarder's id in its region. */
  readonly id: string;
  readonly membership: Membership;
  readonly live: LiveSessions;
  readonly sessions: SessionRegister;
  readonly source: TicketSource;
}

class Door {
  readonly #options: ForwarderOptions;
  readonly #membership: Membership;
  readonly #live: LiveSessions;
  readonly #gate: ConnectionGate;
  readonly #visitors = new Map<Socket, Visitor>();
  readonly #listener: Server;
  readonly #services: VisitorServices;
  #metrics: MetricsServer | null = null;
  #stopping = false;

  constructor(options: ForwarderOptions, parts: DoorParts) {
    this.#options = options;
    this.#membership = parts.membership;
    this.#live = parts.live;
    const { settings, state, randomBytes, log } = options;
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
    this.#services = {
      settings,
      gate: this.#gate,
      ssh: new SshServers(state, settings, (ssh) => this.#identified(ssh), log),
      admitter: new Admitter({
        source: parts.source,
        verifier: parts.membership.verifier,
        forwarderId: parts.id,
        kept: { reuseMarginMs: settings.POSTERN_TICKET_REUSE_MARGIN_MS, maxKept: settings.POSTERN_TICKETS_KEPT },
        clock: options.clock,
        log,
      }),
      sessions: parts.sessions,
      hostKeys: new HostKeyRing([...state.hostKeys, ...state.nextHostKeys]),
      metrics: new ForwarderMetrics({ connections: () => this.#gate.connections, sessions: () => parts.sessions.size }),
      randomBytes,
      clock: options.clock,
      log,
      strangersLog: limitLines(log, settings.POSTERN_SSH_STRANGER_LOG_LINES, () => performance.now()),
    };
    this.#listener = createServer(
      { noDelay: true, keepAlive: true, keepAliveInitialDelay: settings.POSTERN_TCP_KEEPALIVE_MS },
      (socket) => this.#accept(socket),
    );
  }

  async open(): Promise<Forwarder> {
    const { POSTERN_SSH_LISTEN, POSTERN_SSH_REUSE_PORT: reusePort } = this.#options.settings;
    const { address, port } = POSTERN_SSH_LISTEN;
    const metricsPort = await this.#openMetrics();
    this.#listener.listen({ port, reusePort, ...(address === "" ? {} : { host: address }) });
    await once(this.#listener, "listening");
    this.#listener.on("error", (error) => this.#options.log.error("listener failed", { error: error.message }));
    const bound = this.#listener.address();
    if (bound === null || typeof bound === "string") throw new Error("the listener has no address");
    return { address: bound.address, port: bound.port, metricsPort, stop: (drainMs) => this.stop(drainMs) };
  }

  async stop(drainMs = this.#options.settings.POSTERN_DRAIN_MS): Promise<void> {
    if (!this.#stopping) {
      this.#stopping = true;
      this.#listener.close();
      for (const visitor of this.#visitors.values()) {
        visitor.notify(RESTARTING);
        if (!visitor.loggedIn) visitor.end(RESTARTING);
      }
    }
    await this.#emptied(drainMs);
    for (const visitor of this.#visitors.values()) visitor.end(RESTARTING);
    await this.#emptied(this.#options.settings.POSTERN_CLOSE_LINGER_MS);
    for (const socket of this.#visitors.keys()) socket.destroy();
    this.#metrics?.close();
    this.#services.sessions.stop();
    this.#live.close();
    this.#membership.close();
  }

  async #openMetrics(): Promise<number | null> {
    const { POSTERN_METRICS_LISTEN: listen, POSTERN_FORWARDER_WORKER: worker } = this.#options.settings;
    if (listen === undefined) return null;
    const port = listen.port === 0 ? 0 : listen.port + worker;
    this.#metrics = await serveMetrics({ ...listen, port }, this.#services.metrics.registry);
    return this.#metrics.port;
  }

  #identified(ssh: ssh2.Connection): void {
    const socket = socketOf(ssh);
    const visitor = socket === null ? undefined : this.#visitors.get(socket);
    if (visitor === undefined) ssh.end();
    else visitor.identified(ssh);
  }

  #accept(socket: Socket): void {
    if (this.#stopping) {
      socket.destroy();
      return;
    }
    socket.on("close", () => this.#visitors.delete(socket));
    this.#visitors.set(socket, new Visitor(socket, this.#services));
  }

  #emptied(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const deadline = setTimeout(done, ms);
      const poll = setInterval(() => this.#visitors.size === 0 && done(), 20);
      function done(): void {
        clearTimeout(deadline);
        clearInterval(poll);
        resolve();
      }
    });
  }
}
