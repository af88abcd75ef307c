/**
 * What the steps of one request took, for its `Server-Timing` header (W3C Server Timing). The clock of a deployed Worker stands
 * still between I/O, so there a step that asked nobody took 0.
 */
export class ServerTiming {
  readonly #steps: string[] = [];
  readonly #startedAt: number;
  #isForwarded = false;

  constructor() {
    this.#startedAt = this.now();
  }

  /** Milliseconds since an arbitrary moment. */
  now(): number {
    return performance.now();
  }

  /** Milliseconds since the request began. */
  elapsedMs(): number {
    return Math.round(this.now() - this.#startedAt);
  }

  /** Notes a step that began at `startedAt`; `description` is a word of ours, such as the level that answered. */
  add(name: string, startedAt: number, description?: string): void {
    const said = description === undefined ? "" : `;desc=${description}`;
    this.#steps.push(`${name}${said};dur=${milliseconds(this.now() - startedAt)}`);
  }

  /** Notes a step that only looked into memory: reading the clock twice would take longer than it did. */
  addInstant(name: string, description: string): void {
    this.#steps.push(`${name};desc=${description};dur=0`);
  }

  /** The request went to a host: only then does anybody learn how long it took. */
  forwarded(): void {
    this.#isForwarded = true;
  }

  /** The header's value; null for a request that was not forwarded, since refusals must not differ by what was looked up. */
  header(): string | null {
    if (!this.#isForwarded) return null;
    return [...this.#steps, `total;dur=${milliseconds(this.now() - this.#startedAt)}`].join(", ");
  }
}

function milliseconds(duration: number): string {
  return String(Math.max(Math.round(duration * 1000), 0) / 1000);
}
