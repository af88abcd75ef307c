/** How often something may happen: `perSecond` for ever, and `burst` at once. */
export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

interface Bucket {
  readonly tokens: number;
  /** Milliseconds since 1970 UTC. */
  readonly at: number;
}

/**
 * Token buckets by key. Memory is bounded: over `maxKeys` the key that was quiet longest is forgotten, which lets it do
 * more than it may, never less.
 */
export class TokenBuckets {
  readonly #buckets = new Map<string, Bucket>();

  /** Takes a token of `key`; false when there is none. `now` in milliseconds. */
  take(key: string, { perSecond, burst }: Rate, maxKeys: number, now: number): boolean {
    const { tokens, at } = this.#buckets.get(key) ?? { tokens: burst, at: now };
    // A clock that went back fills nothing.
    const filled = Math.min(burst, tokens + (Math.max(now - at, 0) / 1000) * perSecond);
    const isAdmitted = filled >= 1;
    // Entered anew, since a map keeps the order of entry: the first key is the one that was quiet longest.
    this.#buckets.delete(key);
    this.#buckets.set(key, { tokens: isAdmitted ? filled - 1 : filled, at: now });
    this.#forget(maxKeys);
    return isAdmitted;
  }

  get size(): number {
    return this.#buckets.size;
  }

  #forget(maxKeys: number): void {
    for (const key of this.#buckets.keys()) {
      if (this.#buckets.size <= maxKeys) return;
      this.#buckets.delete(key);
    }
  }
}
