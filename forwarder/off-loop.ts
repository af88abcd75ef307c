/**
 * Computations of milliseconds, which would hold the event loop and with it every session, on Node's own threads; only so many at
 * once, so that strangers who order them take those threads, and the machine's cores, from nobody.
 */
export class OffLoop {
  readonly #atOnce: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  /** Does the work when it is its turn: first come, first served. `work` must not compute anything before its first `await`. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running < this.#atOnce) this.#running += 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}
