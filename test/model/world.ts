import { z } from "zod";
import type { Verdict } from "../../durable-objects/contract.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { FeedNumbers } from "../../protocol/feed-numbers.ts";
import { type Floor, FloorTable } from "../../protocol/floors.ts";
import { identitySubject } from "../../protocol/subjects.ts";
import { CLOCK_TOLERANCE_S, type TicketClaims } from "../../protocol/ticket.ts";
import { DEFAULT_VERIFIER_LIMITS, staleness } from "../../protocol/verifier.ts";
import type { Colo } from "../../worker/cache/colo.ts";
import { FactCache, type Lookup } from "../../worker/cache/facts.ts";
import type { Kept } from "../../worker/cache/freshness.ts";
import { Refusals } from "../../worker/cache/refusals.ts";
import { edgeTicketLifeS } from "../../worker/services/ticket-basis.ts";
import { ticketClaimsOf } from "../../worker/tickets/claims.ts";

/**
 * A small model of everything that stands between a narrowing change and a request: one identity's object, two regions, a
 * verifier in each, two locations of the edge with three isolates. Time stands still but for `advance`. What decides is the
 * product's own code: the caches, the claims of tickets, floors, the feed's numbers, and the verifier's judgement.
 */

/** Parts that can be switched off, to see that the model finds what they are there for. */
export interface Switches {
  readonly floors: boolean;
  /** Whether a silent feed makes a verifier look at `read_at`. */
  readonly readAt: boolean;
  /** Whether verifiers count floors. */
  readonly numbers: boolean;
}

export const ALL_ON: Switches = { floors: true, readAt: true, numbers: true };

const VERDICT_MAX_AGE_MS = 60_000;
const REFUSAL_MAX_AGE_MS = 2_000;
const TICKET_REUSE_MARGIN_MS = 15_000;
const HEARTBEAT_MS = 1_500;
const FLOOR_KEEP_MS = 300_000;
const SUBJECT = identitySubject("a".repeat(16));
const QUESTION = "q";
const REGIONS = 2;
const LOCATION_OF_ISOLATE = [0, 0, 1] as const;

export const ISOLATES = LOCATION_OF_ISOLATE.length;
export const VERIFIERS = REGIONS;

type Message =
  | { readonly kind: "floor"; readonly floor: Floor; readonly number: number }
  | { readonly kind: "pong"; readonly sent: number };

interface Region {
  floors: Floor[];
  sent: number;
  /** The identity's object cannot reach it. */
  isOutOfReach: boolean;
  /** A floor that it could not be told. */
  untold: Floor | null;
  /** When it was told of the last narrowing. */
  toldAt: number;
}

interface Verifier {
  floors: FloorTable;
  numbers: FeedNumbers;
  /** By its own clock; null: it has not joined since it started, and admits nobody. */
  heardAt: number | null;
  isConnected: boolean;
  /** On their way, oldest first. */
  channel: Message[];
  isStalled: boolean;
  isCut: boolean;
  /** When the heartbeats were sent that are not answered yet. */
  unanswered: number[];
  /** How far its clock is ahead, in milliseconds. */
  skewMs: number;
}

interface Isolate {
  verdicts: FactCache<Verdict>;
  refusals: Refusals;
  ticket: { readonly claims: TicketClaims; readonly of: Verdict } | null;
}

/** What came of a request. `busy`: 503. */
export type Outcome = "allowed" | "refused" | "busy";

export class World {
  now = 1_900_000_000_000;
  readonly #switches: Switches;
  #epoch = 1;
  #isGranted = true;
  /** When the grant was last taken away, or last given. */
  narrowedAt = Number.NEGATIVE_INFINITY;
  widenedAt = Number.NEGATIVE_INFINITY;
  /** The location that has the mark of the last widening. */
  #markedLocation: number | null = null;
  #regions: Region[] = Array.from({ length: REGIONS }, () => ({
    floors: [],
    sent: 0,
    isOutOfReach: false,
    untold: null,
    toldAt: Number.NEGATIVE_INFINITY,
  }));
  #verifiers: Verifier[];
  #isolates: Isolate[] = LOCATION_OF_ISOLATE.map(newIsolate);
  #locations: Map<string, unknown>[] = [new Map(), new Map()];

  constructor(switches: Switches, skewsMs: readonly number[]) {
    this.#switches = switches;
    this.#verifiers = skewsMs.map((skewMs) => ({ ...newVerifier(), skewMs }));
    for (let index = 0; index < VERIFIERS; index += 1) this.#join(index);
  }

  get isGranted(): boolean {
    return this.#isGranted;
  }

  /** Whether a refusal at this isolate may still be one from before the widening. */
  mayRepeatRefusal(isolate: number): boolean {
    const location = LOCATION_OF_ISOLATE[isolate] ?? 0;
    return location !== this.#markedLocation && this.now - this.widenedAt <= REFUSAL_MAX_AGE_MS;
  }

  /** Lets time pass, with heartbeats at their times. */
  advance(ms: number): void {
    for (let left = ms; left > 0; left -= HEARTBEAT_MS) {
      this.now += Math.min(left, HEARTBEAT_MS);
      for (let index = 0; index < VERIFIERS; index += 1) this.#beat(index);
    }
  }

  /** Takes the grant away: change, epoch and floor in one step, and the floor to every region. */
  narrow(): void {
    if (!this.#isGranted) return;
    this.#isGranted = false;
    this.#epoch += 1;
    this.narrowedAt = this.now;
    const floor = { sub: SUBJECT, epoch: this.#epoch, at: this.now };
    for (const [index, region] of this.#regions.entries()) {
      if (region.isOutOfReach) region.untold = floor;
      else this.#tell(index, floor);
    }
  }

  /** From now on the identity's object cannot reach a region's, whose feed goes on, or can again: then it redelivers. */
  reach(index: number): void {
    const region = this.#region(index);
    region.isOutOfReach = !region.isOutOfReach;
    if (!region.isOutOfReach && region.untold !== null) this.#tell(index, region.untold);
  }

  /** Until when a verifier may still admit what the last narrowing took away, if its feed may be silent for `silentMs`. */
  mayAdmitUntil(index: number, silentMs: number, untoldMs: number): number {
    const { untold, toldAt } = this.#region(index);
    const longest = this.narrowedAt + untoldMs;
    return untold === null ? Math.min(toldAt + silentMs, longest) : longest;
  }

  #tell(index: number, floor: Floor): void {
    const region = this.#region(index);
    const verifier = this.#verifier(index);
    region.floors = [...region.floors.filter(({ at }) => at + FLOOR_KEEP_MS >= this.now), floor];
    region.sent += 1;
    region.untold = null;
    region.toldAt = this.now;
    if (!verifier.isConnected) return;
    verifier.channel.push({ kind: "floor", floor, number: region.sent });
    if (!verifier.isStalled) this.#flow(index);
  }

  /** Gives it again, through an isolate. */
  async widen(isolate: number): Promise<void> {
    if (this.#isGranted) return;
    this.#isGranted = true;
    this.widenedAt = this.now;
    this.#markedLocation = LOCATION_OF_ISOLATE[isolate] ?? null;
    await this.#isolate(isolate).refusals.widen(SUBJECT, this.#refusalLimits(isolate));
  }

  /** A verifier sends a heartbeat, whose answer is then on its way; or gives up a connection that answers none. */
  #beat(index: number): void {
    const verifier = this.#verifier(index);
    if (!verifier.isConnected) {
      if (!verifier.isCut) this.#join(index);
      return;
    }
    if (verifier.unanswered.length >= 2) {
      this.#drop(index);
      return;
    }
    verifier.unanswered.push(this.now);
    verifier.channel.push({ kind: "pong", sent: this.#region(index).sent });
    if (!verifier.isStalled) this.#flow(index);
  }

  /** From now on messages wait, or wait no more. */
  stall(index: number): void {
    const verifier = this.#verifier(index);
    verifier.isStalled = !verifier.isStalled;
    if (!verifier.isStalled) this.#flow(index);
  }

  #flow(index: number): void {
    while (this.#verifier(index).channel.length > 0) this.arrive(index, false);
  }

  /** The next message arrives, or the one behind it first. */
  arrive(index: number, isOutOfOrder: boolean): void {
    const verifier = this.#verifier(index);
    const [message] = verifier.channel.splice(isOutOfOrder && verifier.channel.length > 1 ? 1 : 0, 1);
    if (message === undefined || !verifier.isConnected) return;
    if (message.kind === "floor") {
      verifier.floors.raise(message.floor);
      verifier.numbers.arrived(message.number);
    }
    if (message.kind === "floor") return;
    const pingedAt = verifier.unanswered.shift();
    if (pingedAt === undefined) return;
    if (!this.#switches.numbers || verifier.numbers.hasAll(message.sent)) this.#hear(verifier, pingedAt);
  }

  /** A message that waits is lost: a floor if there is one. */
  lose(index: number): void {
    const { channel } = this.#verifier(index);
    channel.splice(
      Math.max(
        channel.findIndex(({ kind }) => kind === "floor"),
        0,
      ),
      1,
    );
  }

  repeat(index: number): void {
    const { channel } = this.#verifier(index);
    const [message] = channel;
    if (message !== undefined) channel.push(message);
  }

  /** The way between verifier and region is cut, or whole again. */
  cut(index: number): void {
    const verifier = this.#verifier(index);
    verifier.isCut = !verifier.isCut;
    this.#drop(index);
  }

  /** The connection ends. */
  #drop(index: number): void {
    Object.assign(this.#verifier(index), { isConnected: false, channel: [] });
  }

  /** Dials anew and takes the welcome. */
  #join(index: number): void {
    const verifier = this.#verifier(index);
    const { floors, sent } = this.#region(index);
    Object.assign(verifier, { isConnected: true, channel: [], unanswered: [] });
    for (const floor of floors) if (floor.at + FLOOR_KEEP_MS >= this.now) verifier.floors.raise(floor);
    verifier.numbers.begin(sent);
    this.#hear(verifier, this.now);
  }

  /** A host or forwarder starts afresh, with nothing in its memory. */
  restart(index: number): void {
    const { skewMs, isCut } = this.#verifier(index);
    this.#verifiers[index] = { ...newVerifier(), skewMs, isCut };
  }

  loseIsolate(isolate: number): void {
    this.#isolates[isolate] = newIsolate();
  }

  loseLocation(isolate: number): void {
    this.#colo(isolate).clear();
    if (LOCATION_OF_ISOLATE[isolate] === this.#markedLocation) this.#markedLocation = null;
  }

  /** A deploy: new isolates everywhere, and every socket drops. */
  deploy(): void {
    this.#isolates = LOCATION_OF_ISOLATE.map(newIsolate);
    for (let index = 0; index < VERIFIERS; index += 1) this.#drop(index);
  }

  /** A request by one isolate to one verifier, as `worker/hosts/forward.ts` makes it. */
  async request(isolate: number, index: number): Promise<Outcome> {
    const refusal = await this.#isolate(isolate).refusals.find(SUBJECT, QUESTION, this.#refusalLimits(isolate));
    if (refusal !== null) return "refused";
    const { verdicts } = this.#isolate(isolate);
    const first = await this.#noting(isolate, () => verdicts.find(QUESTION, this.#lookup(isolate), () => this.#read()));
    if (!first.ok) return "refused";
    if (this.#verify(index, this.#ticket(isolate, first.value)) === null) return "allowed";
    const again = await this.#noting(isolate, () =>
      verdicts.reread(QUESTION, first.value, this.#lookup(isolate), () => this.#read()),
    );
    if (!again.ok) return "refused";
    return this.#verify(index, this.#ticket(isolate, again.value)) === null ? "allowed" : "busy";
  }

  async #noting(isolate: number, look: () => Promise<{ readonly result: Result<Verdict> }>): Promise<Result<Verdict>> {
    const askedAt = this.now;
    const { result } = await look();
    if (!result.ok) {
      const limits = this.#refusalLimits(isolate);
      this.#isolate(isolate).refusals.enter(SUBJECT, QUESTION, { failure: result.failure, askedAt }, limits);
    }
    return result;
  }

  async #read(): Promise<Result<Verdict>> {
    if (!this.#isGranted) return failure("vm-not-found", "not granted");
    return success({
      subject: SUBJECT,
      accountId: "c".repeat(16),
      credentialId: "t".repeat(16),
      vmId: "v".repeat(20),
      operation: "exec",
      linuxUser: "root",
      epoch: this.#epoch,
      readAt: this.now,
      expiresAt: null,
    });
  }

  #ticket(isolate: number, verdict: Verdict): TicketClaims {
    const holder = this.#isolate(isolate);
    const { ticket } = holder;
    if (ticket?.of === verdict && this.now < ticket.claims.exp * 1000 - TICKET_REUSE_MARGIN_MS) return ticket.claims;
    const claims = ticketClaimsOf("i", verdict, {
      hostId: "h",
      hostUrl: "http://h",
      accountEpoch: 1,
      vmEpoch: 1,
      azp: "edge",
      lifeS: edgeTicketLifeS(verdict.readAt, this.now, { VERDICT_MAX_AGE_MS, TICKET_REUSE_MARGIN_MS }),
      now: this.now,
      randomBytes: (length) => new Uint8Array(length),
    });
    holder.ticket = { claims, of: verdict };
    return claims;
  }

  /** Null: it admits. Else why not. */
  #verify(index: number, claims: TicketClaims): string | null {
    const { heardAt, floors, skewMs } = this.#verifier(index);
    const now = this.now + skewMs;
    if (heardAt === null) return "not joined";
    if (now / 1000 > claims.exp + CLOCK_TOLERANCE_S || now / 1000 < claims.iat - CLOCK_TOLERANCE_S) return "time";
    floors.prune(now);
    const { feedSilenceMs, silentReadAgeS } = DEFAULT_VERIFIER_LIMITS;
    return staleness(claims, this.#switches.floors ? floors : new FloorTable(0), {
      now,
      isFeedFresh: now - heardAt <= feedSilenceMs,
      silentReadAgeS: this.#switches.readAt ? silentReadAgeS : Number.POSITIVE_INFINITY,
    });
  }

  #hear(verifier: Verifier, at: number): void {
    verifier.heardAt = Math.max(verifier.heardAt ?? 0, at + verifier.skewMs);
  }

  #lookup(isolate: number): Lookup {
    return {
      clock: () => this.now,
      colo: this.#shared(isolate),
      maxEntries: 10,
      maxAgeMs: VERDICT_MAX_AGE_MS,
      waitUntil: () => undefined,
    };
  }

  #refusalLimits(isolate: number) {
    return { now: this.now, colo: this.#shared(isolate), maxEntries: 10, maxAgeMs: REFUSAL_MAX_AGE_MS };
  }

  #shared(isolate: number): Colo {
    const kept = this.#colo(isolate);
    return {
      get: async (key) => kept.get(key) ?? null,
      put: async (key, value) => void kept.set(key, value),
      drop: async (key) => void kept.delete(key),
    };
  }

  #colo(isolate: number): Map<string, unknown> {
    return must(this.#locations[LOCATION_OF_ISOLATE[isolate] ?? 0]);
  }

  #isolate(isolate: number): Isolate {
    return must(this.#isolates[isolate]);
  }

  #region(index: number): Region {
    return must(this.#regions[index]);
  }

  #verifier(index: number): Verifier {
    return must(this.#verifiers[index]);
  }
}

function newIsolate(): Isolate {
  // The model's location keeps values as they are, so their form needs no check beyond whether there is one.
  const kept = z.custom<Kept<Verdict>>((value) => value !== null);
  return { verdicts: new FactCache("verdict", kept), refusals: new Refusals(), ticket: null };
}

function newVerifier(): Omit<Verifier, "skewMs"> {
  const floors = new FloorTable(DEFAULT_VERIFIER_LIMITS.floorKeepMs);
  return {
    floors,
    numbers: new FeedNumbers(),
    heardAt: null,
    isConnected: false,
    channel: [],
    isStalled: false,
    isCut: false,
    unanswered: [],
  };
}

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the model has no such part");
  return value;
}
