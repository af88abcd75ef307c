import { createHash } from "node:crypto";
import type { Clock } from "../protocol/bytes.ts";
import type { Admission, Caller } from "./admission.ts";

/** What is kept of an admission: nothing that could ask for another. */
type Kept = Pick<Admission, "ticket" | "claims">;

/** Bounds of what is kept; see the settings of the same names. */
export interface KeptLimits {
  /** How long before its end a ticket is no longer used for a new login, in milliseconds. */
  readonly reuseMarginMs: number;
  readonly maxKept: number;
}

/**
 * What a token login is known by. The client's address is part of it, so that the edge's audit trail has every address that a
 * token was used from. A hash, since what is kept outlives the login and must not hold the token.
 */
export function loginName({ login, address }: Caller, token: string): string {
  const parts = JSON.stringify([login.vmId, login.linuxUser, address, token]);
  return createHash("sha256").update(parts).digest("base64");
}

/**
 * Admissions of token logins, for the logins that follow: an editor opens several connections at once and more later. Each is
 * verified anew before it is used, so a revocation bites as it does for a ticket that was just minted.
 */
export class KeptAdmissions {
  readonly #limits: KeptLimits;
  readonly #clock: Clock;
  /** Oldest first. */
  readonly #kept = new Map<string, Kept>();

  constructor(limits: KeptLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** The admission of that name, unless its ticket is about to end. */
  find(name: string): Kept | null {
    const admission = this.#kept.get(name);
    if (admission !== undefined && this.#lasts(admission)) return admission;
    this.#kept.delete(name);
    return null;
  }

  keep(name: string, { ticket, claims }: Kept): void {
    this.#kept.delete(name);
    for (const [known, oldest] of this.#kept) {
      if (this.#kept.size < this.#limits.maxKept && this.#lasts(oldest)) break;
      this.#kept.delete(known);
    }
    if (this.#limits.maxKept > 0) this.#kept.set(name, { ticket, claims });
  }

  drop(name: string): void {
    this.#kept.delete(name);
  }

  #lasts({ claims }: Kept): boolean {
    return claims.exp * 1000 - this.#limits.reuseMarginMs > this.#clock();
  }
}
