import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import type { Clock } from "../protocol/bytes.ts";

/** Times of a key set, in milliseconds. */
export interface KeySetTimes {
  /** Age at which a fetched set is fetched again, beside its use. Must stay under the edge's publish lead. */
  readonly keySetMaxAgeMs: number;
  /** Age up to which a set that cannot be fetched again is still used: longer than any ticket lives. */
  readonly keySetKeepMs: number;
  /** Least time between two fetches for a key id that the set does not have. */
  readonly keySetCooldownMs: number;
  /** Least time between two fetches while there is no set to use. */
  readonly keySetRetryMs: number;
  /** Longest wait for an answer, and least time between two fetches beside its use. */
  readonly keySetTimeoutMs: number;
}

/**
 * The edge's ticket keys, kept here so that a ticket is verified without asking anybody: fetched when the region is joined and
 * again in the background from then on. A ticket that was minted just before the edge went out of reach stays good to its end.
 */
export class KeySet {
  readonly #url: string;
  readonly #times: KeySetTimes;
  readonly #clock: Clock;
  #find: ReturnType<typeof createLocalJWKSet> | null = null;
  #fetchedAt = Number.NEGATIVE_INFINITY;
  #askedAt = Number.NEGATIVE_INFINITY;
  #fetching: Promise<void> | null = null;
  /** Counts `withdraw`: a fetch that began before one may bring what was withdrawn. */
  #generation = 0;

  /** `edgeUrl`: without a trailing slash. */
  constructor(edgeUrl: string, times: KeySetTimes, clock: Clock) {
    this.#url = `${edgeUrl}/.well-known/jwks.json`;
    this.#times = times;
    this.#clock = clock;
  }

  /** Finds the key of a ticket. Rejects with jose's `JWKSNoMatchingKey`, or the error of fetching when there is no set to use. */
  readonly getKey: JWTVerifyGetKey = async (header, token) => {
    const { keySetKeepMs, keySetCooldownMs } = this.#times;
    if (this.#age() <= keySetKeepMs) this.keepFresh();
    else await this.#fetchAgain();
    if (this.#find === null) throw new Error("there is no key set");
    try {
      return await this.#find(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || this.#clock() - this.#askedAt < keySetCooldownMs) throw error;
    }
    await this.#fetch();
    if (this.#find === null) throw new Error("there is no key set");
    return this.#find(header, token);
  };

  /** Keys were withdrawn: whatever is held or on its way is not used any more, and a new set is fetched now. */
  withdraw(): void {
    this.#generation += 1;
    this.#find = null;
    this.#fetching = null;
    this.#fetchedAt = Number.NEGATIVE_INFINITY;
    // What goes wrong is told to whoever needs the set.
    this.#fetch().catch(() => undefined);
  }

  /** Fetches the set in the background if it is time. To be called every so often. */
  keepFresh(): void {
    // What goes wrong is told to whoever needs the set once it is too old.
    const { keySetMaxAgeMs, keySetTimeoutMs } = this.#times;
    if (this.#age() < keySetMaxAgeMs || this.#clock() - this.#askedAt < keySetTimeoutMs) return;
    this.#fetch().catch(() => undefined);
  }

  /** Fetches a set because there is none to use. However many ask, an edge that has trouble is not asked all the time. */
  async #fetchAgain(): Promise<void> {
    const isTooSoon = this.#clock() - this.#askedAt < this.#times.keySetRetryMs;
    if (this.#fetching === null && isTooSoon) throw new Error("the ticket keys could not be fetched a moment ago");
    await this.#fetch();
  }

  #age(): number {
    return this.#clock() - this.#fetchedAt;
  }

  #fetch(): Promise<void> {
    if (this.#fetching !== null) return this.#fetching;
    const own: Promise<void> = this.#fetchOnce().finally(() => {
      if (this.#fetching === own) this.#fetching = null;
    });
    this.#fetching = own;
    return own;
  }

  async #fetchOnce(): Promise<void> {
    const generation = this.#generation;
    const askedAt = this.#clock();
    this.#askedAt = askedAt;
    const response = await fetch(this.#url, {
      redirect: "error",
      signal: AbortSignal.timeout(this.#times.keySetTimeoutMs),
    });
    if (!response.ok) throw new Error(`the edge answered ${response.status} for its ticket keys`);
    // jose checks the form.
    const find = createLocalJWKSet((await response.json()) as JSONWebKeySet);
    if (generation !== this.#generation) throw new Error("keys were withdrawn while the set was on its way");
    this.#find = find;
    this.#fetchedAt = askedAt;
  }
}
