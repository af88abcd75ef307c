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

  /** `edgeUrl`: without a trailing slash. */
  constructor(edgeUrl: string, times: KeySetTimes, clock: Clock) {
    this.#url = `${edgeUrl}/.well-known/jwks.json`;
    this.#times = times;
    this.#clock = clock;
  }

  /** Finds the key of a ticket. Rejects with jose's `JWKSNoMatchingKey`, or the error of fetching when there is no set to use. */
  readonly getKey: JWTVerifyGetKey = async (header, token) => {
    const { keySetKeepMs, keySetCooldownMs } = this.#times;
    if (this.#age() > keySetKeepMs) await this.#fetch();
    else this.keepFresh();
    if (this.#find === null) throw new Error("there is no key set");
    try {
      return await this.#find(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || this.#clock() - this.#askedAt < keySetCooldownMs) throw error;
    }
    await this.#fetch();
    return this.#find(header, token);
  };

  /** Fetches the set in the background if it is time. To be called every so often. */
  keepFresh(): void {
    // What goes wrong is told to whoever needs the set once it is too old.
    const { keySetMaxAgeMs, keySetTimeoutMs } = this.#times;
    if (this.#age() < keySetMaxAgeMs || this.#clock() - this.#askedAt < keySetTimeoutMs) return;
    this.#fetch().catch(() => undefined);
  }

  #age(): number {
    return this.#clock() - this.#fetchedAt;
  }

  #fetch(): Promise<void> {
    this.#fetching ??= this.#fetchOnce().finally(() => {
      this.#fetching = null;
    });
    return this.#fetching;
  }

  async #fetchOnce(): Promise<void> {
    this.#askedAt = this.#clock();
    const response = await fetch(this.#url, {
      redirect: "error",
      signal: AbortSignal.timeout(this.#times.keySetTimeoutMs),
    });
    if (!response.ok) throw new Error(`the edge answered ${response.status} for its ticket keys`);
    // jose checks the form.
    this.#find = createLocalJWKSet((await response.json()) as JSONWebKeySet);
    this.#fetchedAt = this.#askedAt;
  }
}
