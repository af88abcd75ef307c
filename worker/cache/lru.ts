/** A map that forgets what was used longest ago once it is full. */
export class Lru<V> {
  readonly #entries = new Map<string, V>();

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): V | undefined {
    const value = this.#entries.get(key);
    if (value === undefined) return undefined;
    // Entered anew, since a map keeps the order of entry.
    this.#entries.delete(key);
    this.#entries.set(key, value);
    return value;
  }

  /** Enters a value; over `max` entries the ones used longest ago go. */
  set(key: string, value: V, max: number): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= max) return;
      this.#entries.delete(oldest);
    }
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }
}
