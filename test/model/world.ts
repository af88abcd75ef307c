import type { Verdict } from "../../durable-objects/contract.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { FeedNumbers } from "../../protocol/feed-numbers.ts";
import { type Floor, FloorTable } from "../../protocol/floors.ts";
import { identitySubject, type Subject, vmSubject } from "../../protocol/subjects.ts";
import { CLOCK_TOLERANCE_S, type TicketClaims } from "../../protocol/ticket.ts";
import { DEFAULT_VERIFIER_LIMITS, staleness } from "../../protocol/verifier.ts";
import { RegionClock } from "../../service/region-clock.ts";
import { ModelEdge, must, REFUSAL_MAX_AGE_MS } from "./edge.ts";

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
  /** Whether a grant says at which epoch of the VM it holds. */
  readonly grantEpochs: boolean;
  /** Whether verifiers go by their region's time, not by their machines'. */
  readonly regionTime: boolean;
}

export const ALL_ON: Switches = { floors: true, readAt: true, numbers: true, grantEpochs: true, regionTime: true };

const HEARTBEAT_MS = 1_500;
const FLOOR_KEEP_MS = 300_000;
const SUBJECT = identitySubject("a".repeat(16));
const ACCOUNT = "c".repeat(16);
const VM = "v".repeat(20);
const PLACE = { vmId: VM, accountId: ACCOUNT, region: "r", hostId: "h", hostUrl: "http://h", ports: [], unnotedEpoch: 1 } as const;
const REGIONS = 2;

export const VERIFIERS = REGIONS;

type Message =
  | { readonly kind: "floor"; readonly floor: Floor; readonly number: number }
  | { readonly kind: "pong"; readonly sent: number };

interface Region {
  floors: Floor[];
  sent: number;
  /** The identity's object cannot reach it. */
  isOutOfReach: boolean;
  /** Floors that it could not be told, the newest of each subject. */
  untold: Map<Subject, Floor>;
  /** When it was told of the last narrowing. */
  toldAt: number;
}

interface Verifier {
  floors: FloorTable;
  numbers: FeedNumbers;
  /** By its own time; null: it has not joined since it started, and admits nobody. */
  heardAt: number | null;
  isConnected: boolean;
  /** On their way, oldest first. */
  channel: Message[];
  isStalled: boolean;
  isCut: boolean;
  /** When the heartbeats were sent that are not answered yet, by its own time. */
  unanswered: number[];
  /** How far its machine's clock is ahead, in milliseconds. */
  skewMs: number;
  clock: RegionClock;
}

/** What came of a request. `busy`: 503. */
export type Outcome = "allowed" | "refused" | "busy";

export class World {
  now = 1_900_000_000_000;
  readonly #switches: Switches;
  #epoch = 1;
  #vmEpoch = 1;
  /** The VM's epoch when it was granted, as the identity's row has it; null: there is no grant. */
  #grantedVmEpoch: number | null = 1;
  #lastNarrowing: Floor | null = null;
  /** When the grant was last taken away, or last given. */
  narrowedAt = Number.NEGATIVE_INFINITY;
  widenedAt = Number.NEGATIVE_INFINITY;
  #regions: Region[] = Array.from({ length: REGIONS }, () => ({
    floors: [],
    sent: 0,
    isOutOfReach: false,
    untold: new Map(),
    toldAt: Number.NEGATIVE_INFINITY,
  }));
  #verifiers: Verifier[] = [];
  readonly #edge = new ModelEdge({
    identity: SUBJECT,
    now: () => this.now,
    readVerdict: () => this.#readVerdict(),
    readPlace: () => ({ ...PLACE, epoch: this.#vmEpoch, readAt: this.now }),
  });

  constructor(switches: Switches, skewsMs: readonly number[]) {
    this.#switches = switches;
    this.#verifiers = skewsMs.map((skewMs, index) => ({ ...newVerifier(), skewMs, clock: this.#newClock(index, skewMs) }));
    for (let index = 0; index < VERIFIERS; index += 1) this.#join(index);
  }

  get isGranted(): boolean {
    return this.#grantedVmEpoch === this.#vmEpoch;
  }

  /** Whether a refusal at this isolate may still be one from before the widening. */
  mayRepeatRefusal(isolate: number): boolean {
    return !this.#edge.hasMark(isolate) && this.now - this.widenedAt <= REFUSAL_MAX_AGE_MS;
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
    if (!this.isGranted) return;
    this.#grantedVmEpoch = null;
    this.#epoch += 1;
    this.#announce({ sub: SUBJECT, epoch: this.#epoch, at: this.now });
  }

  /** The VM goes to another account and comes back: the grant stays as a row. */
  moveAndReturn(): void {
    if (!this.isGranted) return;
    this.#vmEpoch += 2;
    this.#announce({ sub: vmSubject(VM), epoch: this.#vmEpoch, at: this.now });
  }

  #announce(floor: Floor): void {
    this.narrowedAt = this.now;
    this.#lastNarrowing = floor;
    for (const [index, region] of this.#regions.entries()) {
      if (region.isOutOfReach) region.untold.set(floor.sub, floor);
      else this.#tell(index, floor);
    }
  }

  /** From now on the identity's object cannot reach a region's, whose feed goes on, or can again: then it redelivers. */
  reach(index: number): void {
    const region = this.#region(index);
    region.isOutOfReach = !region.isOutOfReach;
    if (!region.isOutOfReach) for (const floor of [...region.untold.values()]) this.#tell(index, floor);
  }

  /** Until when a verifier may still admit what the last narrowing took away, if its feed may be silent for `silentMs`. */
  mayAdmitUntil(index: number, silentMs: number, untoldMs: number): number {
    const { untold, toldAt } = this.#region(index);
    const longest = this.narrowedAt + untoldMs;
    const isTold = [...untold.values()].every((floor) => floor !== this.#lastNarrowing);
    return isTold ? Math.min(toldAt + silentMs, longest) : longest;
  }

  #tell(index: number, floor: Floor): void {
    const region = this.#region(index);
    const verifier = this.#verifier(index);
    region.floors = [...region.floors.filter(({ at }) => at + FLOOR_KEEP_MS >= this.now), floor];
    region.sent += 1;
    region.untold.delete(floor.sub);
    if (floor === this.#lastNarrowing) region.toldAt = this.now;
    if (!verifier.isConnected) return;
    verifier.channel.push({ kind: "floor", floor, number: region.sent });
    if (!verifier.isStalled) this.#flow(index);
  }

  /** Gives it again, through an isolate. */
  async widen(isolate: number): Promise<void> {
    if (this.isGranted) return;
    this.#grantedVmEpoch = this.#vmEpoch;
    this.widenedAt = this.now;
    await this.#edge.widen(isolate);
  }

  /** A verifier sends a heartbeat, whose answer is then on its way; or gives up a connection that answers none. */
  #beat(index: number): void {
    const verifier = this.#verifier(index);
    if (!verifier.isConnected) {
      if (!verifier.isCut) this.#join(index);
      return;
    }
    if (verifier.unanswered.length >= 2 || (this.#switches.regionTime && verifier.clock.takeSetAhead())) {
      this.#drop(index);
      return;
    }
    verifier.unanswered.push(this.#timeOf(verifier));
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
    verifier.clock.heard(this.now, verifier.clock.now());
    this.#hear(verifier, this.#timeOf(verifier));
  }

  /** A machine's clock is set to be so much ahead of the true time, or behind it. */
  set(index: number, skewMs: number): void {
    this.#verifier(index).skewMs = skewMs;
  }

  /** A host or forwarder starts afresh, with nothing in its memory. */
  restart(index: number): void {
    const { skewMs, isCut } = this.#verifier(index);
    this.#verifiers[index] = { ...newVerifier(), clock: this.#newClock(index, skewMs), skewMs, isCut };
  }

  loseIsolate(isolate: number): void {
    this.#edge.loseIsolate(isolate);
  }

  loseLocation(isolate: number): void {
    this.#edge.loseLocation(isolate);
  }

  /** A deploy: new isolates everywhere, and every socket drops. */
  deploy(): void {
    this.#edge.loseIsolates();
    for (let index = 0; index < VERIFIERS; index += 1) this.#drop(index);
  }

  /** A request by one isolate to one verifier. */
  async request(isolate: number, index: number): Promise<Outcome> {
    const known = await this.#edge.known(isolate);
    if (known === null) return "refused";
    if (this.#verify(index, this.#edge.ticket(isolate, known)) === null) return "allowed";
    const again = await this.#edge.again(isolate, known);
    if (again === null) return "refused";
    return this.#verify(index, this.#edge.ticket(isolate, again)) === null ? "allowed" : "busy";
  }

  #readVerdict(): Result<Verdict> {
    if (this.#grantedVmEpoch === null) return failure("vm-not-found", "not granted");
    return success({
      subject: SUBJECT,
      accountId: ACCOUNT,
      credentialId: "t".repeat(16),
      vmId: VM,
      operation: "exec",
      linuxUser: "root",
      epoch: this.#epoch,
      readAt: this.now,
      expiresAt: null,
      grant: this.#switches.grantEpochs ? { vmEpoch: this.#grantedVmEpoch } : null,
    });
  }

  /** Null: it admits. Else why not. */
  #verify(index: number, claims: TicketClaims): string | null {
    const verifier = this.#verifier(index);
    const { heardAt, floors } = verifier;
    const now = this.#timeOf(verifier);
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

  /** As `TicketVerifier.feedHeard` takes it. */
  #hear(verifier: Verifier, at: number): void {
    const heardAt = verifier.heardAt ?? 0;
    verifier.heardAt = heardAt > this.#timeOf(verifier) ? at : Math.max(heardAt, at);
  }

  #timeOf({ clock, skewMs }: Verifier): number {
    return this.#switches.regionTime ? clock.now() : this.now + skewMs;
  }

  /** `skewMs`: of the machine as the verifier starts. */
  #newClock(index: number, skewMs: number): RegionClock {
    return new RegionClock(
      () => this.now + (this.#verifiers[index]?.skewMs ?? skewMs),
      () => this.now,
    );
  }

  #region(index: number): Region {
    return must(this.#regions[index]);
  }

  #verifier(index: number): Verifier {
    return must(this.#verifiers[index]);
  }
}

function newVerifier(): Omit<Verifier, "skewMs" | "clock"> {
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
