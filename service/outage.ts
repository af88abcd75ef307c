/** Bounds of a live session that nobody can be asked about, in milliseconds. */
export interface OutageBounds {
  /** For how long it may go on since its authority was last confirmed. */
  readonly unconfirmedMs: number;
  /** For how long the edge is asked, within that time, before the session ends. */
  readonly lastAskingMs: number;
}

/** What is known of a session, in milliseconds. */
export interface Standing {
  /** The time by which tickets are judged: goes on while the machine sleeps, and may be set. */
  readonly now: number;
  /** When its authority was confirmed, by that time: the feed heard, the edge asked and its answer yes, the ticket's facts read. */
  readonly confirmedAt: readonly number[];
  /** The time for which this process has run, by a clock that stands still while it does not (`RunningTime`). */
  readonly running: number;
  /** When the last asking began, by that clock; null: it has not. */
  readonly askingSince: number | null;
}

/** `last-asking`: it ends soon unless the edge says yes. */
export type Judgement = "confirmed" | "last-asking" | "end";

/**
 * Whether a session may go on while its feed is silent. It ends when its authority was last confirmed `unconfirmedMs` ago **and** the edge has
 * been asked in vain for `lastAskingMs` of running time: a machine that was asleep, or whose clock was set ahead, first dials anew.
 */
export function judgeOutage({ now, confirmedAt, running, askingSince }: Standing, bounds: OutageBounds): Judgement {
  // What was confirmed in the future was confirmed before the clock was set back.
  const age = now - Math.max(...confirmedAt.filter((at) => at <= now));
  if (age < bounds.unconfirmedMs - bounds.lastAskingMs) return "confirmed";
  const isAsked = askingSince !== null && running - askingSince >= bounds.lastAskingMs;
  return isAsked && age >= bounds.unconfirmedMs ? "end" : "last-asking";
}

/**
 * For how long a process has run, as somebody sees who looks every `lookMs`: a look that comes late, since the process or its machine stood
 * still, counts as one that was in time, so that what has arrived meanwhile is read before anything is decided by it.
 */
export class RunningTime {
  readonly #lookMs: number;
  #lookedAt: number;
  #ms = 0;

  /** `monotonic`: milliseconds since any moment, by a clock that nobody sets. */
  constructor(lookMs: number, monotonic: number) {
    this.#lookMs = lookMs;
    this.#lookedAt = monotonic;
  }

  /** Milliseconds since it began. */
  look(monotonic: number): number {
    this.#ms += Math.min(monotonic - this.#lookedAt, this.#lookMs);
    this.#lookedAt = monotonic;
    return this.#ms;
  }
}
