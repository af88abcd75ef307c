/** Gives a slot back; repeating it changes nothing. */
export type ReleaseSlot = () => void;

/**
 * A bounded number of slots and a bounded line of those who wait for one, first come first served. Keeps one VM's callers
 * from taking more of the host than their share.
 */
export class Slots {
  readonly #waiting: ((release: ReleaseSlot) => void)[] = [];
  readonly #maxWaiting: number;
  #free: number;

  constructor(count: number, maxWaiting: number) {
    this.#free = count;
    this.#maxWaiting = maxWaiting;
  }

  /** A slot, at once or when one is given back; null when the line is full. */
  take(): Promise<ReleaseSlot | null> {
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve(this.#releaser());
    }
    if (this.#waiting.length >= this.#maxWaiting) return Promise.resolve(null);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #releaser(): ReleaseSlot {
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next(this.#releaser());
    };
  }
}
