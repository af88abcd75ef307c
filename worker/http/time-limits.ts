interface TimeLimit {
  /** By the clock of `performance`, in milliseconds. */
  readonly at: number;
  readonly late: () => void;
}

/** A timer that is set runs for so long at most, so that what ends soon after and begins soon after can share it. */
const LONGEST_TIMER_MS = 5_000;

/**
 * The time limits of one request. They share a timer that is left to run when a limit is kept, as nearly all are: setting and
 * clearing one each would cost as much as looking up the verdict.
 */
export class TimeLimits {
  readonly #running = new Set<TimeLimit>();
  /** When the timer that was set last ends. */
  #wakesAt = Number.POSITIVE_INFINITY;

  /** Calls `late` after `ms` milliseconds, unless what this answers is called before. */
  begin(ms: number, late: () => void): () => void {
    const limit = { at: performance.now() + ms, late };
    this.#running.add(limit);
    this.#wakeBy(limit.at);
    return () => {
      this.#running.delete(limit);
    };
  }

  /** What `work` comes to, or null when it takes longer. It is left to itself then. */
  within<T>(ms: number, work: Promise<T>): Promise<T | null> {
    return new Promise((resolve, reject) => {
      const kept = this.begin(ms, () => resolve(null));
      work.then(
        (value) => {
          kept();
          resolve(value);
        },
        (error) => {
          kept();
          reject(error);
        },
      );
    });
  }

  #wakeBy(at: number): void {
    if (this.#wakesAt <= at) return;
    const now = performance.now();
    const wait = Math.min(Math.max(at - now, 0), LONGEST_TIMER_MS);
    const wakesAt = now + wait;
    this.#wakesAt = wakesAt;
    setTimeout(() => this.#wake(wakesAt), wait);
  }

  #wake(wakesAt: number): void {
    // Another timer was set since, which ends sooner.
    if (wakesAt !== this.#wakesAt) return;
    this.#wakesAt = Number.POSITIVE_INFINITY;
    for (const limit of this.#running) {
      if (limit.at > performance.now()) continue;
      this.#running.delete(limit);
      limit.late();
    }
    for (const { at } of this.#running) this.#wakeBy(at);
  }
}
