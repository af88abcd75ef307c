import WebSocket from "ws";
import type { Clock } from "../protocol/bytes.ts";
import { FEED_PING, type FeedDownstream, type FeedUpstream, feedDownstream, readPong } from "../protocol/feed.ts";
import { FeedNumbers } from "../protocol/feed-numbers.ts";
import type { Floor } from "../protocol/floors.ts";
import { CLOCK_TOLERANCE_S } from "../protocol/ticket.ts";
import { TicketVerifier, type VerifierLimits } from "../protocol/verifier.ts";
import type { ServiceCredential } from "./credential.ts";
import { KeySet, type KeySetTimes } from "./key-set.ts";
import type { Log } from "./log.ts";
import { RegionClock } from "./region-clock.ts";

/** Times of a membership, in milliseconds; settings of hosts and forwarders. */
export interface MembershipTimes extends KeySetTimes {
  /** Between heartbeats. Well under the verifier's `feedSilenceMs`, or a healthy feed looks silent. */
  readonly heartbeatMs: number;
  /** First wait before dialling again; doubles up to `redialMaxMs`. */
  readonly redialMinMs: number;
  readonly redialMaxMs: number;
  /** Longest wait for the socket to open, and then again for the welcome, before dialling anew. */
  readonly welcomeMs: number;
}

/** Sane defaults; see docs/settings.md. */
export const DEFAULT_MEMBERSHIP_TIMES: MembershipTimes = {
  heartbeatMs: 1_500,
  redialMinMs: 100,
  redialMaxMs: 5_000,
  keySetMaxAgeMs: 60_000,
  keySetKeepMs: 150_000,
  keySetCooldownMs: 30_000,
  keySetRetryMs: 1_000,
  keySetTimeoutMs: 5_000,
  welcomeMs: 10_000,
};

export type Hello = Extract<FeedUpstream, { type: "hello" }>;
/** What a member reports once it has joined. */
export type Report = Exclude<FeedUpstream, Hello>;

export interface MembershipOptions {
  /** Base URL of the edge, without a trailing slash. */
  readonly edgeUrl: string;
  readonly credential: ServiceCredential;
  readonly hello: Hello;
  /** The verifier's own audience, from the region that welcomed it. */
  readonly audience: (region: string) => string;
  readonly clock: Clock;
  /** Milliseconds since any moment, by a clock that nobody sets; absent: the process's own. */
  readonly monotonic?: Clock;
  readonly log: Log;
  readonly times?: MembershipTimes;
  readonly limits?: VerifierLimits;
  /** Called when a floor rises, so that live sessions of its subject are authorised anew. */
  readonly onFloor?: (floor: Floor) => void;
  /**
   * Called when every live session must be authorised anew: ticket keys were withdrawn, or a break was so long that the region may
   * have dropped floors which came in it.
   */
  readonly onDoubt?: () => void;
  /** Called after every welcome, the first one included: the moment to report state that the region may have missed. */
  readonly onWelcome?: () => void;
  /** Called with every welcome and whenever the operator decides: whether this host takes no new VMs and wakes none. */
  readonly onDrain?: (draining: boolean) => void;
  /** Called when an account wants one of this forwarder's connections closed. */
  readonly onCloseSession?: (id: string) => void;
  /** Aborting gives up joining. Once joined it has no effect: see `Membership.close`. */
  readonly signal?: AbortSignal;
}

/** The edge refused the service or its hello, so that dialling again would not help; or joining was given up. */
export class JoinRefused extends Error {}

/**
 * A host's or forwarder's place in its region: the feed socket, kept open, and the verifier that it feeds. After a break
 * it dials again by itself, and the welcome brings every floor it missed.
 */
export interface Membership {
  readonly region: string;
  readonly verifier: TicketVerifier;
  /** Sends a change; while the feed is down it is dropped, since `onWelcome` reports everything anew. */
  report(message: Report): void;
  close(): void;
}

/** Joins the region that the service is enrolled in. Resolves at the first welcome; rejects with `JoinRefused`. */
export function joinRegion(options: MembershipOptions): Promise<Membership> {
  return new Promise((resolve, reject) => {
    const feed = new FeedSocket(options, resolve, reject);
    const { signal } = options;
    if (signal?.aborted) {
      reject(new JoinRefused("joining was given up"));
      return;
    }
    signal?.addEventListener("abort", () => feed.giveUp(), { once: true });
    feed.dial();
  });
}

class FeedSocket {
  readonly #options: MembershipOptions;
  readonly #times: MembershipTimes;
  readonly #keys: KeySet;
  readonly #clock: RegionClock;
  readonly #joined: (membership: Membership) => void;
  readonly #refused: (error: JoinRefused) => void;
  #socket: WebSocket | null = null;
  #heartbeat: NodeJS.Timeout | null = null;
  #redial: NodeJS.Timeout | null = null;
  #awaitWelcome: NodeJS.Timeout | null = null;
  #redialMs: number;
  #verifier: TicketVerifier | null = null;
  readonly #numbers = new FeedNumbers();
  /** When the heartbeats were sent that are not answered yet. */
  #unanswered: number[] = [];
  #helloAt = 0;
  /** Heartbeats in a row whose answer told of floors that are not here. */
  #behind = 0;
  #welcomed = false;
  #closed = false;

  constructor(options: MembershipOptions, joined: (membership: Membership) => void, refused: (error: JoinRefused) => void) {
    this.#options = options;
    this.#times = options.times ?? DEFAULT_MEMBERSHIP_TIMES;
    this.#clock = new RegionClock(options.clock, options.monotonic ?? (() => performance.now()));
    this.#keys = new KeySet(options.edgeUrl, this.#times, options.clock);
    this.#redialMs = this.#times.redialMinMs;
    this.#joined = joined;
    this.#refused = refused;
  }

  dial(): void {
    const { credential, log } = this.#options;
    credential.assertion().then(
      (assertion) => this.#dialWith(assertion),
      (error: unknown) => {
        log.error("no assertion could be made", { error: String(error) });
        this.#reconnect();
      },
    );
  }

  #dialWith(assertion: string): void {
    if (this.#closed) return;
    const url = `${this.#options.edgeUrl.replace(/^http/, "ws")}/service/v1/feed`;
    const socket = new WebSocket(url, {
      headers: { authorization: `Bearer ${assertion}` },
      maxPayload: 16 * 1024 * 1024,
      // A compressed frame is unpacked on a thread of the pool that files and signatures use too: a floor would wait behind them all.
      perMessageDeflate: false,
      handshakeTimeout: this.#times.welcomeMs,
    });
    this.#socket = socket;
    socket.on("open", () => {
      socket.send(JSON.stringify(this.#options.hello));
      this.#helloAt = this.#clock.now();
      this.#unanswered = [];
      this.#behind = 0;
      this.#welcomed = false;
      this.#heartbeat = setInterval(() => this.#beat(socket), this.#times.heartbeatMs);
      this.#awaitWelcome = setTimeout(() => {
        this.#options.log.warn("the region sent no welcome");
        socket.terminate();
      }, this.#times.welcomeMs);
    });
    socket.on("message", (data) => this.#receive(data.toString()));
    socket.on("unexpected-response", (_request, response) => {
      response.resume();
      if (response.statusCode === 401 || response.statusCode === 403) {
        this.#refuse(`the edge refused this service (HTTP ${response.statusCode})`);
      }
      socket.terminate();
    });
    socket.on("error", (error) => this.#options.log.warn("feed socket failed", { error: error.message }));
    socket.on("close", () => this.#reconnect());
  }

  /** Ends an attempt to join; a membership stays. */
  giveUp(): void {
    if (this.#verifier !== null) return;
    this.#close();
    this.#refused(new JoinRefused("joining was given up"));
  }

  #beat(socket: WebSocket): void {
    // Two heartbeats without an answer: the connection is dead even if TCP has not noticed. And only a welcome says the region's time.
    if (this.#unanswered.length >= 2 || this.#clock.takeSetAhead()) {
      socket.terminate();
      return;
    }
    this.#unanswered.push(this.#clock.now());
    socket.send(FEED_PING);
  }

  #receive(text: string): void {
    this.#keys.keepFresh();
    const sent = readPong(text);
    if (sent !== undefined) {
      this.#pong(sent);
      return;
    }
    const message = readMessage(text);
    if (message === null) this.#options.log.warn("feed message of an unknown form was dropped");
    else this.#handle(message);
  }

  #pong(sent: number | null): void {
    const pingedAt = this.#unanswered.shift();
    // A heartbeat answered before the welcome proves nothing: floors raised during the break are not here yet.
    if (!this.#welcomed || pingedAt === undefined) return;
    if (!this.#numbers.hasAll(sent)) {
      this.#missFloors();
      return;
    }
    this.#behind = 0;
    this.#verifier?.feedHeard(pingedAt);
  }

  /** A floor may be about to arrive; one that is still missing at the next heartbeat was lost, and a new welcome has it. */
  #missFloors(): void {
    this.#behind += 1;
    if (this.#behind < 2) return;
    this.#options.log.warn("a floor was lost on the feed; dialling anew");
    this.#behind = 0;
    this.#socket?.terminate();
  }

  #handle(message: FeedDownstream): void {
    switch (message.type) {
      case "welcome":
        this.#welcome(message);
        return;
      case "floor":
        this.#raise(message.floor);
        if (message.number !== undefined) this.#numbers.arrived(message.number);
        return;
      case "keys-voided":
        this.#voidKeys(message.kids);
        if (message.number !== undefined) this.#numbers.arrived(message.number);
        return;
      case "drain":
        this.#options.onDrain?.(message.draining);
        return;
      case "close-ssh-session":
        this.#options.onCloseSession?.(message.id);
        return;
      case "refused":
        this.#refuse(message.message);
        this.#socket?.close();
        return;
    }
  }

  #welcome(message: Extract<FeedDownstream, { type: "welcome" }>): void {
    this.#redialMs = this.#times.redialMinMs;
    const { limits, audience, onWelcome, log } = this.#options;
    const first = this.#verifier === null;
    const verifier =
      this.#verifier ??
      new TicketVerifier({
        getKey: this.#keys.getKey,
        issuer: message.issuer,
        audience: audience(message.region),
        clock: this.#clock.now,
        ...(limits === undefined ? {} : { limits }),
      });
    this.#verifier = verifier;
    const mayLackFloors = !first && verifier.mayLackFloors();
    const heardUpTo = this.#setClock(message.now);
    this.#voidKeys(message.voidedKeys);
    // Floors first: a late joiner must know what it missed before it accepts a ticket.
    for (const floor of message.floors) this.#raise(floor);
    this.#numbers.begin(message.number ?? 0);
    verifier.feedHeard(heardUpTo);
    this.#welcomed = true;
    if (this.#awaitWelcome !== null) clearTimeout(this.#awaitWelcome);
    log.info("joined region", { region: message.region, floors: message.floors.length });
    if (mayLackFloors) this.#options.onDoubt?.();
    this.#options.onDrain?.(message.draining ?? false);
    onWelcome?.();
    if (first) {
      this.#joined({
        region: message.region,
        verifier,
        report: (state) => this.#send(state),
        close: () => this.#close(),
      });
    }
  }

  /** Goes by the region's time from now on. Answers when the hello was sent, by that. */
  #setClock(regionNow: number | undefined): number {
    if (regionNow === undefined) return this.#helloAt;
    const offMs = this.#clock.heard(regionNow, this.#helloAt);
    if (Math.abs(offMs) > CLOCK_TOLERANCE_S * 1000)
      this.#options.log.warn("this machine's clock was off", { ms: Math.round(offMs) });
    return regionNow;
  }

  #voidKeys(kids: readonly string[]): void {
    if (this.#verifier?.voidKeys(kids) !== true) return;
    this.#options.log.warn("ticket keys were withdrawn", { keys: kids.join(" ") });
    this.#keys.withdraw();
    this.#options.onDoubt?.();
  }

  #raise(floor: Floor): void {
    if (this.#verifier?.floors.raise(floor)) this.#options.onFloor?.(floor);
  }

  #send(message: Report): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #refuse(message: string): void {
    if (this.#verifier !== null) {
      this.#options.log.error("the region refused this service", { reason: message });
      return;
    }
    this.#closed = true;
    this.#refused(new JoinRefused(message));
  }

  #reconnect(): void {
    if (this.#heartbeat !== null) clearInterval(this.#heartbeat);
    this.#heartbeat = null;
    if (this.#awaitWelcome !== null) clearTimeout(this.#awaitWelcome);
    if (this.#closed) return;
    this.#redial = setTimeout(() => this.dial(), this.#redialMs);
    this.#redialMs = Math.min(this.#redialMs * 2, this.#times.redialMaxMs);
  }

  #close(): void {
    this.#closed = true;
    if (this.#redial !== null) clearTimeout(this.#redial);
    this.#socket?.close();
  }
}

function readMessage(text: string): FeedDownstream | null {
  try {
    return feedDownstream.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
