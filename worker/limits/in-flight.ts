/**
 * Counts what is under way by key. A request that is cancelled never says that it is done, so whatever takes longer than it may
 * is no longer counted: the count heals by itself.
 */
export class InFlight {
  readonly #began = new Map<string, Set<{ readonly at: number }>>();

  /**
   * Counts one more of `key`, unless `most` are under way. Answers what to call when it is done, or null. Those that began more
   * than `patienceMs` before `now` (milliseconds) do not count.
   */
  enter(key: string, most: number, patienceMs: number, now: number): (() => void) | null {
    const entries = this.#began.get(key) ?? new Set();
    for (const entry of entries) {
      if (now - entry.at <= patienceMs) break;
      entries.delete(entry);
    }
    if (entries.size >= most) return null;
    const own = { at: now };
    this.#began.set(key, entries.add(own));
    return () => {
      entries.delete(own);
      if (entries.size === 0 && this.#began.get(key) === entries) this.#began.delete(key);
    };
  }

  /** Keys that something is under way for. */
  get size(): number {
    return this.#began.size;
  }
}
