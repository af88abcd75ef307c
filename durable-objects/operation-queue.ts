/**
 * One operation at a time, in the order asked. An operation equal to the last one waiting shares its answer; an equal one
 * further ahead does not count, since another comes in between.
 */
export class OperationQueue<Name extends string> {
  #last: { readonly name: Name; readonly answer: Promise<unknown> } | null = null;
  #length = 0;

  /** Operations that run or wait. */
  get length(): number {
    return this.#length;
  }

  /** Runs `operation` after those before it. `name` must stand for one result type throughout. */
  run<T>(name: Name, operation: () => Promise<T>): Promise<T> {
    if (this.#last?.name === name) return this.#last.answer as Promise<T>;
    const before = this.#last?.answer ?? Promise.resolve();
    const answer = before.then(operation, operation).finally(() => {
      this.#length -= 1;
      if (this.#last?.answer === answer) this.#last = null;
    });
    this.#length += 1;
    this.#last = { name, answer };
    return answer;
  }
}
