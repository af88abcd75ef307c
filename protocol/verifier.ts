import type { JWTVerifyGetKey } from "jose";
import type { Clock } from "./bytes.ts";
import { FloorTable } from "./floors.ts";
import { type CheckedTicket, CLOCK_TOLERANCE_S, checkTicket, subjectsOf, type TicketClaims, ticketKeyId } from "./ticket.ts";

/** Limits of a verifier; every one is a setting of the host and the forwarder. */
export interface VerifierLimits {
  /** Feed silence, in milliseconds, after which only fresh verdicts are accepted. */
  readonly feedSilenceMs: number;
  /** Oldest verdict, in seconds since it was read, that is accepted while the feed is silent. */
  readonly silentReadAgeS: number;
  /** How long a floor is kept, in milliseconds. */
  readonly floorKeepMs: number;
  /** Most single-use ticket ids remembered at once; beyond it single-use tickets are refused rather than risked. */
  readonly maxReplayEntries: number;
}

/** Sane defaults; see docs/settings.md. */
export const DEFAULT_VERIFIER_LIMITS: VerifierLimits = {
  feedSilenceMs: 5_000,
  silentReadAgeS: 15,
  floorKeepMs: 300_000,
  maxReplayEntries: 100_000,
};

/** Why a genuine ticket's verdict is too old for what is known here, or null. `now`: milliseconds since 1970 UTC. */
export function staleness(
  claims: TicketClaims,
  floors: FloorTable,
  at: { readonly now: number; readonly isFeedFresh: boolean } & Pick<VerifierLimits, "silentReadAgeS">,
): "stale-epoch" | "stale-authority" | null {
  for (const [subject, epoch] of subjectsOf(claims)) if (!floors.admits(subject, epoch)) return "stale-epoch";
  const isOld = at.now / 1000 - claims.read_at > at.silentReadAgeS;
  return isOld && !at.isFeedFresh ? "stale-authority" : null;
}

/**
 * A ticket verifier with its memory: floors from the feed, when the feed last spoke, and the single-use tickets already
 * seen. Decides offline. One per host agent and one per forwarder process.
 */
export class TicketVerifier {
  readonly floors: FloorTable;
  readonly #getKey: JWTVerifyGetKey;
  readonly #audience: string;
  readonly #issuer: string;
  readonly #clock: Clock;
  readonly #limits: VerifierLimits;
  readonly #seen = new Map<string, number>();
  /** Withdrawn keys: few ever, so they are kept for good. */
  readonly #voidedKeys = new Set<string>();
  #feedHeardAt = Number.NEGATIVE_INFINITY;

  constructor(options: { getKey: JWTVerifyGetKey; issuer: string; audience: string; clock: Clock; limits?: VerifierLimits }) {
    this.#getKey = options.getKey;
    this.#issuer = options.issuer;
    this.#audience = options.audience;
    this.#clock = options.clock;
    this.#limits = options.limits ?? DEFAULT_VERIFIER_LIMITS;
    this.floors = new FloorTable(this.#limits.floorKeepMs);
  }

  /**
   * Everything that the feed had to say up to a time is known here (milliseconds since 1970 UTC, by this clock). For a heartbeat
   * that is when it was sent: its answer may have been long on its way.
   */
  feedHeard(upTo = this.#clock()): void {
    const now = this.#clock();
    // What was heard in the future was heard before the clock was set back.
    this.#feedHeardAt = this.#feedHeardAt > now ? upTo : Math.max(this.#feedHeardAt, upTo);
    this.floors.prune(now);
  }

  /** Refuses tickets of these keys from now on. True if one of them was not refused before. */
  voidKeys(kids: readonly string[]): boolean {
    const before = this.#voidedKeys.size;
    for (const kid of kids) this.#voidedKeys.add(kid);
    return this.#voidedKeys.size > before;
  }

  /** The time by which tickets are judged here, in milliseconds since 1970 UTC. */
  now(): number {
    return this.#clock();
  }

  /** Up to when everything that the feed had to say is known here, by this verifier's time. */
  get feedHeardAt(): number {
    return this.#feedHeardAt;
  }

  /** Whether the feed has spoken recently enough to trust that no floor was missed. */
  isFeedFresh(): boolean {
    return this.#clock() - this.#feedHeardAt <= this.#limits.feedSilenceMs;
  }

  /**
   * Whether the feed was silent for so long that floors raised meanwhile may not be in the next welcome: half of what they are kept for,
   * since the region keeps them by its own clock. No ticket is as old as that, but live sessions are.
   */
  mayLackFloors(): boolean {
    return this.#clock() - this.#feedHeardAt > this.#limits.floorKeepMs / 2;
  }

  /** Verifies a ticket in full and, if it is a client's single-use ticket, uses it up. */
  async verify(ticket: string): Promise<CheckedTicket> {
    const now = this.#clock();
    if (this.#isVoided(ticket)) return { ok: false, reason: "voided-key" };
    const checked = await checkTicket(ticket, { getKey: this.#getKey, issuer: this.#issuer, audience: this.#audience, now });
    // The key may have been withdrawn while the signature was checked.
    if (this.#isVoided(ticket)) return { ok: false, reason: "voided-key" };
    if (!checked.ok) return checked;
    const { claims } = checked;
    const reason = staleness(claims, this.floors, { now, isFeedFresh: this.isFeedFresh(), ...this.#limits });
    if (reason !== null) return { ok: false, reason };
    if (claims.azp === "client" && !this.#useOnce(claims.jti, claims.exp, now)) return { ok: false, reason: "replayed" };
    return checked;
  }

  #isVoided(ticket: string): boolean {
    return this.#voidedKeys.size > 0 && this.#voidedKeys.has(ticketKeyId(ticket) ?? "");
  }

  #useOnce(jti: string, exp: number, now: number): boolean {
    for (const [known, until] of this.#seen) {
      if (until >= now) break;
      this.#seen.delete(known);
    }
    if (this.#seen.has(jti) || this.#seen.size >= this.#limits.maxReplayEntries) return false;
    this.#seen.set(jti, (exp + CLOCK_TOLERANCE_S) * 1000);
    return true;
  }
}
