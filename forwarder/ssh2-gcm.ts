import { free } from "../service/free.ts";
import { type GcmKeys, GcmOpener, type PacketBounds, sealPacket } from "./gcm.ts";
import type { Packet } from "./packet.ts";

/**
 * Takes AES-GCM over from `ssh2` 1.17.0, which copies each packet four times. Beside `packet-leg.ts` and `ssh2-handshake.ts`
 * the only file that touches its private fields. Where they are not as expected (another cipher, its native addon), `ssh2`
 * goes on by itself; `test/forwarder/ssh2-gcm.test.ts` fails when they move.
 */

/** What `ssh2` 1.17.0 wants of a decipher (lib/protocol/crypto.js, AESGCMDecipherNative). */
export interface PrivateDecipher {
  inSeqno: number;
  /** Replaced while a key exchange is under way. */
  _onPayload: (payload: Buffer) => boolean | number | undefined;
  free(): void;
  decrypt(data: Buffer, from: number, end: number): number | undefined;
}

/** Its cipher (AESGCMCipherNative), as far as it is needed to write in its place. */
export interface PrivateGcmCipher {
  outSeqno: number;
  readonly _encSSLName: GcmKeys["cipher"];
  readonly _encKey: Buffer;
  readonly _encIV: Buffer;
  readonly _dead: boolean;
}

/** Writes packets by their plaintext in place of `ssh2`'s cipher; both count the same keys on, so they may take turns. */
export class GcmSealer {
  readonly #cipher: PrivateGcmCipher;
  readonly #keys: GcmKeys;

  /** Null when `cipher` is another one. */
  static of(cipher: object): GcmSealer | null {
    return isGcmCipher(cipher) ? new GcmSealer(cipher) : null;
  }

  private constructor(cipher: PrivateGcmCipher) {
    this.#cipher = cipher;
    this.#keys = { cipher: cipher._encSSLName, key: cipher._encKey, iv: cipher._encIV };
  }

  send(plaintext: readonly Uint8Array[], write: (bytes: Uint8Array) => void): void {
    const cipher = this.#cipher;
    if (cipher._dead) return;
    sealPacket(this.#keys, plaintext, write);
    cipher.outSeqno = (cipher.outSeqno + 1) >>> 0;
  }
}

/**
 * A decipher in the place of `ssh2`'s, which must be between two packets; null when that is for another cipher. `onPacket`
 * gets connection-protocol packets, except during a key exchange, when all are for `ssh2`; after each that it took `goOn` is asked
 * whether to read the next one (undefined) or to stop there (false).
 */
export function replaceDecipher(
  decipher: PrivateDecipher,
  onPacket: (packet: Packet) => boolean,
  goOn: () => false | undefined,
  bounds: PacketBounds,
): PrivateDecipher | null {
  const keys = readDecipherKeys(decipher);
  if (keys === null) return null;
  const usual = decipher._onPayload;
  const opener = new GcmOpener(
    keys,
    (packet) => {
      replaced.inSeqno = (replaced.inSeqno + 1) >>> 0;
      if (replaced._onPayload === usual && onPacket(packet)) return goOn();
      const { payload } = packet;
      return replaced._onPayload(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength));
    },
    bounds,
  );
  const replaced: PrivateDecipher = {
    inSeqno: decipher.inSeqno,
    _onPayload: usual,
    free: () => undefined,
    decrypt: (data, from, end) => {
      const stopped = opener.decrypt(data, from, end);
      // All of what the socket read is decrypted, and ssh2 keeps nothing of it.
      if (stopped === undefined || stopped >= end) free(data);
      return stopped;
    },
  };
  return replaced;
}

function isGcmCipher(cipher: object): cipher is PrivateGcmCipher {
  return (
    isGcm(Reflect.get(cipher, "_encSSLName")) &&
    Buffer.isBuffer(Reflect.get(cipher, "_encKey")) &&
    isIv(Reflect.get(cipher, "_encIV")) &&
    typeof Reflect.get(cipher, "outSeqno") === "number" &&
    Reflect.get(cipher, "_dead") === false
  );
}

function readDecipherKeys(decipher: PrivateDecipher): GcmKeys | null {
  const cipher: unknown = Reflect.get(decipher, "_decipherSSLName");
  const key: unknown = Reflect.get(decipher, "_decipherKey");
  const iv: unknown = Reflect.get(decipher, "_decipherIV");
  return isGcm(cipher) && Buffer.isBuffer(key) && isIv(iv) ? { cipher, key, iv } : null;
}

function isGcm(name: unknown): name is GcmKeys["cipher"] {
  return name === "aes-128-gcm" || name === "aes-256-gcm";
}

function isIv(iv: unknown): iv is Buffer {
  return Buffer.isBuffer(iv) && iv.length === 12;
}
