import type { Failure } from "../../protocol/failures.ts";
import type { Colo } from "./colo.ts";
import { isRefusalUsable } from "./freshness.ts";
import { Lru } from "./lru.ts";

interface Refusal {
  readonly failure: Failure;
  /** When the edge began to ask, by its own clock. */
  readonly askedAt: number;
}

export interface RefusalLimits {
  readonly now: number;
  readonly colo: Colo;
  readonly maxEntries: number;
  readonly maxAgeMs: number;
}

/** Longer than a refusal is kept by a margin for clocks that differ within a location. */
const MARK_LIFE_FACTOR = 4;

/**
 * What objects refused a moment ago, in this isolate only, so that whoever keeps asking does not keep an object busy. A change
 * that widens leaves a mark at its location: a refusal asked for before it is not repeated there, in whichever isolate.
 */
export class Refusals {
  readonly #kept = new Lru<Map<string, Refusal>>();
  readonly #widenedAt = new Lru<number>();

  get size(): number {
    return this.#kept.size;
  }

  /** Whether anything that this object refused is kept; without a promise, since of most objects nothing is. */
  mayKnow(about: string): boolean {
    return this.#kept.get(about) !== undefined;
  }

  /** `about`: the object that refused; `question`: what it was asked. Null: it must be asked. */
  async find(about: string, question: string, { now, colo, maxAgeMs }: RefusalLimits): Promise<Failure | null> {
    const refusal = this.#kept.get(about)?.get(question);
    if (refusal === undefined || !isRefusalUsable(refusal.askedAt, null, now, maxAgeMs)) return null;
    if (!isRefusalUsable(refusal.askedAt, this.#widenedAt.get(about) ?? null, now, maxAgeMs)) return null;
    const mark = await colo.get(markOf(about));
    // Nobody can say whether something was widened elsewhere at this location.
    if (mark === undefined) return null;
    return isRefusalUsable(refusal.askedAt, typeof mark === "number" ? mark : null, now, maxAgeMs) ? refusal.failure : null;
  }

  enter(about: string, question: string, refusal: Refusal, { maxEntries }: Pick<RefusalLimits, "maxEntries">): void {
    const known = this.#kept.get(about) ?? new Map<string, Refusal>();
    if (known.size >= MOST_QUESTIONS) known.clear();
    known.set(question, refusal);
    this.#kept.set(about, known, maxEntries);
  }

  /** Something about this object was widened: what it refused before holds no longer at this location. */
  async widen(about: string, { now, colo, maxEntries, maxAgeMs }: RefusalLimits): Promise<void> {
    this.#kept.delete(about);
    // A question that is under way was asked before, and enters its refusal after.
    this.#widenedAt.set(about, now, maxEntries);
    await colo.put(markOf(about), now, maxAgeMs * MARK_LIFE_FACTOR);
  }

  clear(): void {
    this.#kept.clear();
  }
}

/** Different questions about one object whose refusals are kept. */
const MOST_QUESTIONS = 8;

function markOf(about: string): string {
  return `widened ${about}`;
}
