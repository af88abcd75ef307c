/** What is asked for single headers, by their names in lower case: the runtime's own objects, and those below. */
export interface HeaderSource {
  get(name: string): string | null;
}

/**
 * A request's headers, read in one go: every question to the runtime's own object costs as much as reading them all, which is done
 * anyway to count them.
 */
export class RequestHead implements HeaderSource {
  readonly #values = new Map<string, string>();
  /** Characters of the URL and of all names and values. */
  readonly length: number;

  constructor({ url, headers }: Request) {
    let { length } = url;
    headers.forEach((value, name) => {
      length += name.length + value.length;
      this.#values.set(name, value);
    });
    this.length = length;
  }

  get(name: string): string | null {
    return this.#values.get(name) ?? null;
  }
}
