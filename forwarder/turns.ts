/** Longest piece of work that is done in one go, unless a single packet takes longer; in milliseconds. */
const PIECE_MS = 1;
/** What those who wait may take together before sockets are looked at again. */
const TURN_MS = 1;
/** The part of the process that a connection may use without ever having to wait. */
const SHARE = 0.02;
/** How far ahead of that part it may be and still be served at once. */
const AHEAD_MS = 100;
/** How far behind it can fall; where a new one starts, since strangers must not outrank those who have paid. */
const MOST_BEHIND_MS = 500;

/** The part of the process that those over their share may use without waiting, all together, while nobody waits. */
const SPARE_SHARE = 0.5;
/** The part of the process that all strangers together may use, so that it is idle, and at once there for others, most of the time. */
const STRANGERS_SHARE = 0.25;
/** How far ahead of it they may be: many who come back at once are no flood. */
const STRANGERS_AHEAD_MS = 1_000;
/** Wait before strangers alone, who are further ahead, are looked at again. */
const STRANGERS_PAUSE_MS = 4;

/** Does what there is to do until nothing is left, or `isOver` after at least one step; answers whether all is done. */
export type Work = (isOver: () => boolean) => boolean;

/** One connection's place among the others. */
export interface Turn {
  /**
   * There is something to do: does it now or, if the connection had more than its share or is new, when its turn comes.
   * `little`: it is known to take little, and need not wait for a turn when nobody else does.
   */
  ask(little: boolean): void;
  /** Has logged in: no stranger any more. */
  known(): void;
  /** Nothing is to do any more. */
  leave(): void;
}

interface Entry {
  readonly work: Work;
  /** When it will have used no more than its share. */
  paidAt: number;
  waits: boolean;
  isStranger: boolean;
}

/**
 * Shares one event loop between connections, so that neither a flood of small packets nor the key exchanges of many strangers
 * make others wait: who uses little is served at once, the others in turns, those first who are least ahead of their share. Of
 * those a connection that is alone with small packets, one after the other, need not wait either.
 */
export class Turns {
  readonly #now: () => number;
  readonly #later: (callback: () => void) => void;
  readonly #waiting = new Set<Entry>();
  readonly #afterwards: (() => void)[] = [];
  #serves = false;
  /** When all work together will have used no more than `SPARE_SHARE`. */
  #spareAt = Number.NEGATIVE_INFINITY;
  readonly #after: (callback: () => void, ms: number) => void;
  #called = false;
  #pausing = false;
  #strangersPaidAt = Number.NEGATIVE_INFINITY;

  /** `now`: milliseconds that never go back; `later`: calls back once sockets have been looked at; `after`: in a while. */
  constructor(
    now: () => number,
    later: (callback: () => void) => void,
    after: (callback: () => void, ms: number) => void = setTimeout,
  ) {
    this.#now = now;
    this.#later = later;
    this.#after = after;
  }

  join(work: Work, isStranger = false): Turn {
    const entry: Entry = { work, paidAt: this.#now() + MOST_BEHIND_MS, waits: false, isStranger };
    return {
      ask: (little) => this.#ask(entry, little),
      known: () => {
        entry.isStranger = false;
      },
      leave: () => {
        entry.waits = false;
        this.#waiting.delete(entry);
      },
    };
  }

  /** Calls back at the end of the piece of work that is being done; soon, when none is. */
  afterPiece(callback: () => void): void {
    if (this.#serves) this.#afterwards.push(callback);
    else process.nextTick(callback);
  }

  #ask(entry: Entry, little: boolean): void {
    if (entry.waits) return;
    const now = this.#now();
    const isDue = entry.paidAt - now <= AHEAD_MS || (little && this.#hasSpare(now));
    if (isDue && this.#isServed(entry, now)) this.#serve(entry, now);
    else this.#wait(entry);
  }

  // Bounds what others whose bytes came in the same look at the sockets may have to wait for.
  #hasSpare(now: number): boolean {
    return this.#waiting.size === 0 && this.#spareAt - now < TURN_MS;
  }

  #wait(entry: Entry): void {
    entry.waits = true;
    this.#waiting.add(entry);
    this.#call();
  }

  #call(): void {
    if (this.#called) return;
    this.#called = true;
    this.#later(() => this.#next());
  }

  #next(): void {
    this.#called = false;
    const end = this.#now() + TURN_MS;
    let now = this.#now();
    while (this.#waiting.size > 0 && now < end) {
      const entry = this.#mostDeserving(now);
      if (entry === undefined) {
        this.#pause();
        return;
      }
      entry.waits = false;
      this.#waiting.delete(entry);
      this.#serve(entry, now);
      now = this.#now();
    }
    if (this.#waiting.size > 0) this.#call();
  }

  #pause(): void {
    if (this.#pausing) return;
    this.#pausing = true;
    this.#after(() => {
      this.#pausing = false;
      if (this.#waiting.size > 0) this.#call();
    }, STRANGERS_PAUSE_MS);
  }

  #serve(entry: Entry, now: number): void {
    const end = now + PIECE_MS;
    const done = this.#do(entry, end);
    const ended = this.#now();
    this.#spareAt = Math.max(this.#spareAt, now) + (ended - now) / SPARE_SHARE;
    entry.paidAt = Math.min(Math.max(entry.paidAt, now) + (ended - now) / SHARE, ended + MOST_BEHIND_MS);
    if (entry.isStranger) this.#strangersPaidAt = Math.max(this.#strangersPaidAt, now) + (ended - now) / STRANGERS_SHARE;
    if (!done) this.#wait(entry);
  }

  #do(entry: Entry, end: number): boolean {
    this.#serves = true;
    try {
      return entry.work(() => this.#now() >= end);
    } finally {
      this.#serves = false;
      for (const callback of this.#afterwards) callback();
      this.#afterwards.length = 0;
    }
  }

  #isServed(entry: Entry, now: number): boolean {
    return !entry.isStranger || this.#strangersPaidAt - now <= STRANGERS_AHEAD_MS;
  }

  /** Of those that are equally far ahead the one that waits longest; undefined while only strangers wait who had more than their share. */
  #mostDeserving(now: number): Entry | undefined {
    let found: Entry | undefined;
    for (const entry of this.#waiting) {
      if (this.#isServed(entry, now) && (found === undefined || entry.paidAt < found.paidAt)) found = entry;
    }
    return found;
  }
}
