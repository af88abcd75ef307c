import type { Subject } from "./subjects.ts";

/** The lowest epoch of one subject that a verifier still accepts, and when it was raised (milliseconds since 1970 UTC). */
export interface Floor {
  readonly sub: Subject;
  readonly epoch: number;
  readonly at: number;
}

/**
 * A verifier's floors. A floor matters only while a ticket from before it can still be alive, so old ones are dropped:
 * memory is bounded by the narrowing changes of the last `keepMs`, not by the number of subjects.
 */
export class FloorTable {
  readonly #floors = new Map<Subject, Floor>();
  readonly #keepMs: number;

  /** `keepMs`: how long a floor is kept; must exceed the age of the oldest verdict that a ticket may carry. */
  constructor(keepMs: number) {
    this.#keepMs = keepMs;
  }

  /** Raises a floor. Older and repeated messages change nothing, so the feed may reorder and repeat. True if raised. */
  raise(floor: Floor): boolean {
    const known = this.#floors.get(floor.sub);
    if (known !== undefined && known.epoch >= floor.epoch) return false;
    this.#floors.delete(floor.sub);
    this.#floors.set(floor.sub, floor);
    return true;
  }

  /** Whether a verdict read at this epoch is still good as far as is known here. */
  admits(sub: Subject, epoch: number): boolean {
    const floor = this.#floors.get(sub);
    return floor === undefined || epoch >= floor.epoch;
  }

  /** The floor of a subject, if one is kept. */
  get(sub: Subject): Floor | undefined {
    return this.#floors.get(sub);
  }

  /** Drops floors raised more than `keepMs` before `now`. */
  prune(now: number): void {
    for (const [sub, floor] of this.#floors) {
      if (floor.at + this.#keepMs < now) this.#floors.delete(sub);
    }
  }

  /** Every floor that is kept, oldest raise first. */
  list(): Floor[] {
    return [...this.#floors.values()];
  }
}
