import type { Verdict } from "../../durable-objects/contract.ts";
import type { Placement } from "../../durable-objects/vm-contract.ts";
import { type Result, success } from "../../protocol/failures.ts";
import type { Subject } from "../../protocol/subjects.ts";
import type { TicketClaims } from "../../protocol/ticket.ts";
import type { Colo } from "../../worker/cache/colo.ts";
import { FactCache, type Lookup } from "../../worker/cache/facts.ts";
import { keptPlacement, keptVerdict } from "../../worker/cache/forms.ts";
import { Refusals } from "../../worker/cache/refusals.ts";
import { isPlaceFor } from "../../worker/services/grant-epoch.ts";
import { edgeTicketLifeS } from "../../worker/services/ticket-basis.ts";
import { ticketClaimsOf } from "../../worker/tickets/claims.ts";

const VERDICT_MAX_AGE_MS = 60_000;
const VERDICT_REFRESH_AGE_MS = 40_000;
export const REFUSAL_MAX_AGE_MS = 2_000;
const TICKET_REUSE_MARGIN_MS = 15_000;
const QUESTION = "q";
const LOCATION_OF_ISOLATE = [0, 0, 1] as const;

export const ISOLATES = LOCATION_OF_ISOLATE.length;

/** What a ticket hangs on here. */
export interface Basis {
  readonly verdict: Verdict;
  readonly placement: Placement;
}

/** The objects, as the edge asks them, and the time. */
export interface Objects {
  readonly identity: Subject;
  readonly now: () => number;
  readonly readVerdict: () => Result<Verdict>;
  readonly readPlace: () => Placement;
}

interface Isolate {
  readonly verdicts: FactCache<Verdict>;
  readonly places: FactCache<Placement>;
  readonly refusals: Refusals;
  ticket: { readonly claims: TicketClaims; readonly of: Basis } | null;
}

/** Two locations of the edge with three isolates: what they keep, and how they decide by it, as `worker/hosts/forward.ts` does. */
export class ModelEdge {
  readonly #objects: Objects;
  readonly #locations: readonly Map<string, unknown>[] = [new Map(), new Map()];
  #isolates = LOCATION_OF_ISOLATE.map(newIsolate);
  /** The location that has the mark of the last widening. */
  #markedLocation: number | null = null;

  constructor(objects: Objects) {
    this.#objects = objects;
  }

  /** Whether the last widening was seen at this isolate's location. */
  hasMark(isolate: number): boolean {
    return LOCATION_OF_ISOLATE[isolate] === this.#markedLocation;
  }

  async widen(isolate: number): Promise<void> {
    this.#markedLocation = LOCATION_OF_ISOLATE[isolate] ?? null;
    await this.#isolate(isolate).refusals.widen(this.#objects.identity, this.#refusalLimits(isolate));
  }

  loseIsolate(isolate: number): void {
    this.#isolates[isolate] = newIsolate();
  }

  loseLocation(isolate: number): void {
    this.#colo(isolate).clear();
    if (this.hasMark(isolate)) this.#markedLocation = null;
  }

  loseIsolates(): void {
    this.#isolates = LOCATION_OF_ISOLATE.map(newIsolate);
  }

  /** By what the isolate knows; a verdict whose grant does not hold is read again before anybody is refused. Null: refused. */
  async known(isolate: number): Promise<Basis | null> {
    const { identity } = this.#objects;
    if ((await this.#isolate(isolate).refusals.find(identity, QUESTION, this.#refusalLimits(isolate))) !== null) return null;
    const first = await this.#verdict(isolate, null);
    if (!first.ok) return null;
    return (await this.#basis(isolate, first.value, null)) ?? this.#anew(isolate, first.value, null);
  }

  /** By what the objects say, after a verifier refused. */
  again(isolate: number, refused: Basis): Promise<Basis | null> {
    return this.#anew(isolate, refused.verdict, refused.placement);
  }

  /** A ticket for what an isolate went by; the one that it has, as long as it may. */
  ticket(isolate: number, basis: Basis): TicketClaims {
    const holder = this.#isolate(isolate);
    const now = this.#objects.now();
    const { ticket } = holder;
    const { verdict, placement } = basis;
    const isSame = ticket?.of.verdict === verdict && ticket.of.placement === placement;
    if (isSame && now < ticket.claims.exp * 1000 - TICKET_REUSE_MARGIN_MS) return ticket.claims;
    const readAt = Math.min(verdict.readAt, placement.readAt);
    const claims = ticketClaimsOf("i", verdict, {
      hostId: "h",
      hostUrl: "http://h",
      accountEpoch: 1,
      vmEpoch: placement.epoch,
      readAt,
      azp: "edge",
      lifeS: edgeTicketLifeS(readAt, now, { VERDICT_MAX_AGE_MS, TICKET_REUSE_MARGIN_MS }),
      now,
      randomBytes: (length) => new Uint8Array(length),
    });
    holder.ticket = { claims, of: basis };
    return claims;
  }

  async #anew(isolate: number, verdict: Verdict, placement: Placement | null): Promise<Basis | null> {
    const again = await this.#verdict(isolate, verdict);
    return again.ok ? this.#basis(isolate, again.value, placement) : null;
  }

  async #basis(isolate: number, verdict: Verdict, refused: Placement | null): Promise<Basis | null> {
    const placement = await this.#place(isolate, refused);
    if (isPlaceFor(verdict, placement)) return { verdict, placement };
    const now = await this.#place(isolate, placement);
    return isPlaceFor(verdict, now) ? { verdict, placement: now } : null;
  }

  /** `refused`: what a verifier refused, or what did not fit. */
  async #verdict(isolate: number, refused: Verdict | null): Promise<Result<Verdict>> {
    const { verdicts, refusals } = this.#isolate(isolate);
    const { now, readVerdict, identity } = this.#objects;
    const askedAt = now();
    const { result } = await found(verdicts, QUESTION, refused, this.#lookup(isolate), async () => readVerdict());
    if (!result.ok) refusals.enter(identity, QUESTION, { failure: result.failure, askedAt }, this.#refusalLimits(isolate));
    return result;
  }

  async #place(isolate: number, refused: Placement | null): Promise<Placement> {
    const read = async () => success(this.#objects.readPlace());
    const { result } = await found(this.#isolate(isolate).places, "place", refused, this.#lookup(isolate), read);
    if (!result.ok) throw new Error("the model's VM is always there");
    return result.value;
  }

  #lookup(isolate: number): Lookup {
    return {
      clock: this.#objects.now,
      colo: this.#shared(isolate),
      maxEntries: 10,
      maxAgeMs: VERDICT_MAX_AGE_MS,
      refreshAgeMs: VERDICT_REFRESH_AGE_MS,
      waitUntil: () => undefined,
    };
  }

  #refusalLimits(isolate: number) {
    return { now: this.#objects.now(), colo: this.#shared(isolate), maxEntries: 10, maxAgeMs: REFUSAL_MAX_AGE_MS };
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
}

function found<T extends { readonly readAt: number }>(
  cache: FactCache<T>,
  key: string,
  refused: T | null,
  lookup: Lookup,
  read: () => Promise<Result<T>>,
) {
  return refused === null ? cache.find(key, lookup, read) : cache.reread(key, refused, lookup, read);
}

function newIsolate(): Isolate {
  return {
    verdicts: new FactCache("verdict", keptVerdict),
    places: new FactCache("placement", keptPlacement),
    refusals: new Refusals(),
    ticket: null,
  };
}

export function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the model has no such part");
  return value;
}
