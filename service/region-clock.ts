import type { Clock } from "../protocol/bytes.ts";

/** By how much a wall clock may be corrected at once and still count as running evenly, in milliseconds. */
const STEP_MS = 1_000;

/**
 * The time of a service's region, as well as it can be known here: tickets are judged by it, and it is the edge that dates them. The
 * region says its time with every welcome; in between this machine's clock goes on, and where that is set back this one is not, since
 * tickets would look younger. Never behind the region's, and ahead of it by no more than the welcome took.
 */
export class RegionClock {
  readonly #wall: Clock;
  readonly #monotonic: Clock;
  /** What to add to the wall clock. */
  #offsetMs = 0;
  #last: { readonly wall: number; readonly monotonic: number };
  #wasSetAhead = false;

  /** `monotonic`: milliseconds since any moment; nobody sets it. */
  constructor(wall: Clock, monotonic: Clock) {
    this.#wall = wall;
    this.#monotonic = monotonic;
    this.#last = { wall: wall(), monotonic: monotonic() };
  }

  /** Milliseconds since 1970 UTC. */
  readonly now: Clock = () => {
    const [wall, monotonic] = [this.#wall(), this.#monotonic()];
    const stepMs = wall - this.#last.wall - (monotonic - this.#last.monotonic);
    this.#last = { wall, monotonic };
    if (stepMs < -STEP_MS) this.#offsetMs -= stepMs;
    // A machine that was asleep has no other way to learn how long.
    if (stepMs > STEP_MS) this.#wasSetAhead = true;
    return wall + this.#offsetMs;
  };

  /** The region answered with its own time to what was sent at `sentAt` by this clock. Answers how far off that was. */
  heard(regionNow: number, sentAt: number): number {
    const offMs = regionNow - sentAt;
    this.#offsetMs += offMs;
    return offMs;
  }

  /** Whether the wall clock was set ahead since this was last asked: then the region's time is worth asking for. */
  takeSetAhead(): boolean {
    this.now();
    const wasSetAhead = this.#wasSetAhead;
    this.#wasSetAhead = false;
    return wasSetAhead;
  }
}
