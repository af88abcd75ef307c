/** The last output of a terminal, at most `limit` bytes of it. */
export class Scrollback {
  readonly #limit: number;
  #chunks: Buffer[] = [];
  #bytes = 0;

  /** `limit`: most bytes that are kept; 0 keeps none. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Adds output; the oldest goes when there is more than the limit. */
  push(data: Buffer): void {
    this.#chunks.push(data);
    this.#bytes += data.length;
    // Joined only once there is twice as much, so that a busy terminal is not copied on every packet.
    if (this.#bytes > this.#limit * 2 || this.#chunks.length > MAX_CHUNKS) this.#compact();
  }

  /** What is kept, oldest first; begins with a whole UTF-8 character if the terminal wrote UTF-8. */
  read(): Buffer {
    this.#compact();
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  #compact(): void {
    const all = Buffer.concat(this.#chunks);
    const kept = all.length > this.#limit ? all.subarray(startOfCharacter(all, all.length - this.#limit)) : all;
    // A copy, or the part that was cut off would stay in memory.
    this.#chunks = [Buffer.from(kept)];
    this.#bytes = kept.length;
  }
}

/** Many small writes are joined now and then, so that each costs its bytes and not an object. */
const MAX_CHUNKS = 1024;

/** The first place at or after `from` that is no continuation byte (RFC 3629 section 3), at most three further. */
function startOfCharacter(bytes: Buffer, from: number): number {
  for (let index = from; index < Math.min(from + 3, bytes.length); index += 1) {
    if (((bytes[index] ?? 0) & 0xc0) !== 0x80) return index;
  }
  return Math.min(from + 3, bytes.length);
}
