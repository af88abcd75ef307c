/**
 * One run of some work for any number of callers: whoever asks while it runs gets the same outcome, good or bad, and the
 * next caller after that starts it anew.
 */
export class SingleFlight<T> {
  #inflight: Promise<T> | null = null;

  /** `work` must be an async function: it is called before anything is awaited, so two callers cannot both start it. */
  run(work: () => Promise<T>): Promise<T> {
    this.#inflight ??= work().finally(() => {
      this.#inflight = null;
    });
    return this.#inflight;
  }
}

/** Runs steps strictly one after another, whatever becomes of each. */
export class SerialQueue {
  #tail: Promise<unknown> = Promise.resolve();

  run<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(step);
    this.#tail = result.catch(() => undefined);
    return result;
  }
}
