/** How long a caller waits for what another request began before it does it itself, in milliseconds. */
const SHARED_LIMIT_MS = 1_000;

/** Lets concurrent callers of one key share one call. */
export class SingleFlight<T> {
  readonly #inflight = new Map<string, Promise<T>>();

  /** Calls `begin`, or waits for the call of this key that is under way. `isShared`: another caller began it. */
  async run(key: string, begin: () => Promise<T>): Promise<{ readonly value: T; readonly isShared: boolean }> {
    const shared = this.#inflight.get(key);
    if (shared === undefined) return { value: await this.#own(key, begin), isShared: false };
    const value = await settledSoon(shared);
    if (value !== null) return { value: value.of, isShared: true };
    if (this.#inflight.get(key) === shared) this.#inflight.delete(key);
    return { value: await this.#own(key, begin), isShared: false };
  }

  async #own(key: string, begin: () => Promise<T>): Promise<T> {
    // Entered before anything is awaited: otherwise every caller of the same moment begins one of its own.
    const own = begin();
    this.#inflight.set(key, own);
    try {
      return await own;
    } finally {
      if (this.#inflight.get(key) === own) this.#inflight.delete(key);
    }
  }
}

/**
 * What a call came to, or null when it failed or dawdles: the request that began it may have been cancelled, and then its
 * promise never settles, so nobody may wait for it without a limit.
 */
async function settledSoon<T>(shared: Promise<T>): Promise<{ readonly of: T } | null> {
  let timer: ReturnType<typeof setTimeout> | null = null;
  const limit = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), SHARED_LIMIT_MS);
  });
  try {
    return await Promise.race([
      shared.then(
        (value) => ({ of: value }),
        () => null,
      ),
      limit,
    ]);
  } finally {
    if (timer !== null) clearTimeout(timer);
  }
}
