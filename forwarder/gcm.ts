import { createCipheriv, createDecipheriv, type DecipherGCM } from "node:crypto";
import { Packet } from "./packet.ts";

/** One direction's keys under `aes128-gcm@openssh.com` or `aes256-gcm@openssh.com` (RFC 5647, OpenSSH's PROTOCOL section 1.6). */
export interface GcmKeys {
  readonly cipher: "aes-128-gcm" | "aes-256-gcm";
  readonly key: Buffer;
  /** Twelve bytes, of which the last eight count packets; counted up in place. */
  readonly iv: Buffer;
}

const BLOCK_BYTES = 16;
const TAG_BYTES = 16;
const LENGTH_BYTES = 4;
/** What `ssh2` takes too, and RFC 4253 section 6.1 asks for at least. */
export const USUAL_PACKET_BYTES = 35_000;
/** What OpenSSH takes, length and tag included: a long command is one packet. */
export const LARGE_PACKET_BYTES = 262_144 + LENGTH_BYTES + TAG_BYTES;

/** What a connection takes now. */
export interface PacketBounds {
  readonly maxPacketBytes: number;
}
/** Pieces of a packet that are kept apart; a sender that cuts it into more has them joined. */
const MAX_PIECES = 4;
/** Up to here a packet is written in one piece. */
const SMALL_BYTES = 1_024;

/** Encrypts one packet from its plaintext, in whole blocks of 16 bytes, and counts the keys on. */
export function sealPacket(keys: GcmKeys, plaintext: readonly Uint8Array[], write: (bytes: Uint8Array) => void): void {
  let size = 0;
  for (const piece of plaintext) size += piece.length;
  const length = Buffer.allocUnsafe(LENGTH_BYTES);
  length.writeUInt32BE(size);
  const cipher = createCipheriv(keys.cipher, keys.key, keys.iv);
  cipher.setAAD(length);
  const sealed = plaintext.map((piece) => cipher.update(piece));
  cipher.final();
  const pieces = [length, ...sealed, cipher.getAuthTag()];
  if (size <= SMALL_BYTES) write(Buffer.concat(pieces));
  else for (const piece of pieces) write(piece);
  countOn(keys.iv);
}

/** Decrypts packets from a stream that may be cut anywhere. */
export class GcmOpener {
  readonly #keys: GcmKeys;
  /** Gets each packet, once its tag has proven it; anything but undefined makes `decrypt` return there. */
  readonly #onPacket: (packet: Packet) => boolean | number | undefined;
  readonly #bounds: PacketBounds;
  /** Length and tag of the packet under way. */
  readonly #frame = Buffer.alloc(LENGTH_BYTES + TAG_BYTES);
  #lengthBytes = 0;
  #tagBytes = 0;
  #decipher: DecipherGCM | null = null;
  /** Ciphertext of the packet that has not come yet. */
  #missing = 0;
  #pieces: Uint8Array[] = [];
  #room: Uint8Array | null = null;
  #joined = 0;

  constructor(
    keys: GcmKeys,
    onPacket: (packet: Packet) => boolean | number | undefined,
    bounds: PacketBounds = { maxPacketBytes: USUAL_PACKET_BYTES },
  ) {
    this.#keys = keys;
    this.#bounds = bounds;
    this.#onPacket = onPacket;
  }

  /**
   * Reads `data` from `from` up to `end`. Returns undefined when it has read all, or the place at which `onPacket` had it
   * stop. Throws on a packet that is too long, not in whole blocks, or not what was sent.
   */
  decrypt(data: Uint8Array, from: number, end: number): number | undefined {
    let at = from;
    while (at < end) {
      if (this.#decipher === null) at = this.#readLength(data, at, end);
      else if (this.#missing > 0) at = this.#readPiece(this.#decipher, data, at, end);
      else {
        const part = Math.min(TAG_BYTES - this.#tagBytes, end - at);
        this.#frame.set(data.subarray(at, at + part), LENGTH_BYTES + this.#tagBytes);
        this.#tagBytes += part;
        at += part;
        if (this.#tagBytes < TAG_BYTES) return undefined;
        const answer = this.#onPacket(this.#finish(this.#decipher));
        if (answer !== undefined) return typeof answer === "number" ? answer : at;
      }
    }
    return undefined;
  }

  #readLength(data: Uint8Array, from: number, end: number): number {
    let at = from;
    while (at < end && this.#lengthBytes < LENGTH_BYTES) this.#frame[this.#lengthBytes++] = data[at++] ?? 0;
    if (this.#lengthBytes < LENGTH_BYTES) return at;
    const length = this.#frame.readUInt32BE();
    const tooLong = length + LENGTH_BYTES + TAG_BYTES > this.#bounds.maxPacketBytes;
    if (tooLong || length < BLOCK_BYTES || length % BLOCK_BYTES !== 0) {
      throw new Error("Bad packet length");
    }
    this.#missing = length;
    this.#decipher = createDecipheriv(this.#keys.cipher, this.#keys.key, this.#keys.iv);
    this.#decipher.setAAD(this.#frame.subarray(0, LENGTH_BYTES));
    return at;
  }

  #readPiece(decipher: DecipherGCM, data: Uint8Array, at: number, end: number): number {
    const part = Math.min(this.#missing, end - at);
    const piece = decipher.update(data.subarray(at, at + part));
    this.#missing -= part;
    if (this.#pieces.length < MAX_PIECES) this.#pieces.push(piece);
    else this.#join(piece);
    return at + part;
  }

  /** Puts a piece too many behind the others, where there is room for all that is still to come. */
  #join(piece: Uint8Array): void {
    if (this.#room === null) {
      this.#room = Buffer.allocUnsafeSlow(piece.length + this.#missing);
      this.#pieces.push(this.#room);
    }
    this.#room.set(piece, this.#joined);
    this.#joined += piece.length;
  }

  #finish(decipher: DecipherGCM): Packet {
    decipher.setAuthTag(this.#frame.subarray(LENGTH_BYTES));
    decipher.final();
    const packet = Packet.ofPlaintext(this.#pieces);
    countOn(this.#keys.iv);
    this.#decipher = null;
    this.#lengthBytes = 0;
    this.#tagBytes = 0;
    this.#room = null;
    this.#joined = 0;
    this.#pieces = [];
    return packet;
  }
}

/** RFC 5647 section 7.1: the invocation counter. */
function countOn(iv: Buffer): void {
  for (let at = 11; at >= 4; at -= 1) {
    const next = ((iv[at] ?? 0) + 1) & 0xff;
    iv[at] = next;
    if (next !== 0) return;
  }
}
