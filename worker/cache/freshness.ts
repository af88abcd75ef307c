/** Something that an object said, with the time of its own clock when it said it (milliseconds since 1970 UTC). */
export interface Fact {
  readonly readAt: number;
  /** When it ends by itself, whatever its age; absent or null: never. */
  readonly expiresAt?: number | null;
}

/** A fact as a cache keeps it. `askedAt`: when the edge, by its own clock, began to ask. */
export interface Kept<T extends Fact> {
  readonly fact: T;
  readonly askedAt: number;
}

/**
 * Whether a kept fact may still be used to forward. Its age counts from the earlier of both clocks, so that an object whose
 * clock runs ahead makes nothing younger; what seems to come from the future has an unknown age and is not used.
 */
export function isUsable<T extends Fact>({ fact, askedAt }: Kept<T>, now: number, maxAgeMs: number): boolean {
  if (now < askedAt || now - Math.min(askedAt, fact.readAt) > maxAgeMs) return false;
  return fact.expiresAt === undefined || fact.expiresAt === null || now < fact.expiresAt;
}

/** Whether a kept fact has come so near its end that one who uses it has it read again for those who come after. */
export function isAging<T extends Fact>({ fact, askedAt }: Kept<T>, now: number, refreshAgeMs: number): boolean {
  return now - Math.min(askedAt, fact.readAt) > refreshAgeMs;
}

/** A fact just read: no later than when the edge began to ask, so that a verifier measures its age safely too. */
export function keep<T extends Fact>(fact: T, askedAt: number): Kept<T> {
  return { fact: fact.readAt <= askedAt ? fact : { ...fact, readAt: askedAt }, askedAt };
}

/**
 * Whether a kept refusal may still be repeated: it is young, and nothing was widened at this location since it was asked for.
 * `widenedAt`: when that last happened here; null: not lately.
 */
export function isRefusalUsable(askedAt: number, widenedAt: number | null, now: number, maxAgeMs: number): boolean {
  if (now < askedAt || now - askedAt > maxAgeMs) return false;
  return widenedAt === null || widenedAt < askedAt;
}
