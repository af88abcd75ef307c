import { free } from "../service/free.ts";

/**
 * One decrypted packet. Under AES-GCM its plaintext is kept as it came (padding length, payload, padding: RFC 4253 section
 * 6), in as many pieces as the network cut it into, so that it can be encrypted again without being copied.
 */
export class Packet {
  /** The message number. */
  readonly type: number;
  /** Bytes of the payload. */
  readonly length: number;
  /** The plaintext, in whole blocks of 16 bytes; null when only the payload is known. */
  readonly plaintext: readonly Uint8Array[] | null;
  #payload: Uint8Array | null;

  private constructor(type: number, length: number, plaintext: readonly Uint8Array[] | null, payload: Uint8Array | null) {
    this.type = type;
    this.length = length;
    this.plaintext = plaintext;
    this.#payload = payload;
  }

  /** A packet of which only the payload is known, which may be a view into a buffer that is used again. */
  static ofPayload(payload: Uint8Array): Packet {
    return new Packet(payload[0] ?? 0, payload.length, null, payload);
  }

  /** A packet by its plaintext, which must not change any more. Throws when the padding is not as RFC 4253 wants it. */
  static ofPlaintext(pieces: readonly Uint8Array[]): Packet {
    let size = 0;
    for (const piece of pieces) size += piece.length;
    const padding = byteAt(pieces, 0);
    const length = size - 1 - padding;
    if (padding < 4 || length < 0) throw new Error("Bad padding length");
    return new Packet(length === 0 ? 0 : byteAt(pieces, 1), length, pieces, null);
  }

  get payload(): Uint8Array {
    this.#payload ??= this.#join();
    return this.#payload;
  }

  /** The packet in memory of its own. */
  keep(): Packet {
    return this.plaintext === null ? Packet.ofPayload(Buffer.from(this.payload)) : this;
  }

  /** Gives the plaintext's memory back. The packet must not be used after it. */
  release(): void {
    for (const piece of this.plaintext ?? []) free(piece);
  }

  #join(): Uint8Array {
    const [first, ...more] = this.plaintext ?? [];
    if (first === undefined) return Buffer.alloc(0);
    const whole = more.length === 0 ? first : Buffer.concat([first, ...more]);
    return whole.subarray(1, 1 + this.length);
  }
}

function byteAt(pieces: readonly Uint8Array[], offset: number): number {
  let at = offset;
  for (const piece of pieces) {
    if (at < piece.length) return piece[at] ?? 0;
    at -= piece.length;
  }
  return 0;
}
