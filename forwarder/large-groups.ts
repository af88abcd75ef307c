import { createPublicKey, diffieHellman, generateKeyPair, type KeyObject, sign } from "node:crypto";
import { promisify } from "node:util";
import { mpint } from "./ssh-wire.ts";

/** Groups whose computations take a thread milliseconds, by the names of their key exchanges (RFC 8268, RFC 5656). */
export const LARGE_GROUPS: ReadonlyMap<string, LargeGroup> = new Map<string, LargeGroup>([
  ["diffie-hellman-group14-sha256", { type: "dh", group: "modp14" }],
  ["diffie-hellman-group16-sha512", { type: "dh", group: "modp16" }],
  ["diffie-hellman-group18-sha512", { type: "dh", group: "modp18" }],
  ["ecdh-sha2-nistp384", { type: "ec", group: "secp384r1" }],
  ["ecdh-sha2-nistp521", { type: "ec", group: "secp521r1" }],
]);

export interface LargeGroup {
  readonly type: "dh" | "ec";
  /** As OpenSSL calls it. */
  readonly group: string;
}

/** One side's half of a key exchange. */
export interface HalfExchange {
  /** A number's big-endian bytes or a curve's point. */
  readonly publicBytes: Buffer;
  /**
   * The shared secret, an `mpint` without its length (RFC 4251 section 5); null for a peer's half that is none: out of range
   * (RFC 4253 section 8), of a small subgroup, or not on the curve.
   */
  secretWith(peer: Uint8Array): Promise<Buffer | null>;
}

type GenerateDhPair = (type: "dh", options: { group: string }, done: (error: Error | null, ...pair: KeyPair) => void) => void;
type KeyPair = [publicKey: KeyObject, privateKey: KeyObject];

const signData = promisify(sign);

const [INTEGER, BIT_STRING, SEQUENCE] = [0x02, 0x03, 0x30];

/**
 * Makes a half on a thread of Node's pool. For `dh` OpenSSL takes exponents of twice the group's strength, as OpenSSH does: a tenth of the
 * work of full ones.
 */
export async function beginExchange({ type, group }: LargeGroup): Promise<HalfExchange> {
  const [publicKey, privateKey] = await makeKeys({ type, group });
  const { algorithm, key } = readSpki(publicKey.export({ type: "spki", format: "der" }));
  return {
    publicBytes: type === "dh" ? readTlv(key, 0).content : key,
    secretWith: async (peer) => {
      const encoded = type === "dh" ? integer(peer) : peer;
      const theirs = encoded.length > 2 * key.length ? null : publicKeyOf(algorithm, encoded);
      const secret = theirs === null ? null : await derive(privateKey, theirs);
      return secret === null ? null : mpint(secret).subarray(4);
    },
  };
}

/** Signs with an RSA key on a thread of Node's pool (RFC 8332 section 3). */
export async function signWithRsa(hash: "sha256" | "sha512", data: Uint8Array, privateKey: KeyObject): Promise<Buffer> {
  return signData(hash, data, privateKey);
}

function makeKeys({ type, group }: LargeGroup): Promise<KeyPair> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, ...pair: KeyPair) => (error === null ? resolve(pair) : reject(error));
    // Node's types do not know that it makes them of a group.
    if (type === "dh") (generateKeyPair as unknown as GenerateDhPair)("dh", { group }, done);
    else generateKeyPair("ec", { namedCurve: group }, done);
  });
}

function derive(privateKey: KeyObject, publicKey: KeyObject): Promise<Buffer | null> {
  return new Promise((resolve) => {
    diffieHellman({ privateKey, publicKey }, (error, secret) => resolve(error === null ? secret : null));
  });
}

function publicKeyOf(algorithm: Uint8Array, key: Uint8Array): KeyObject | null {
  const bits = tlv(BIT_STRING, Buffer.concat([Buffer.of(0), key]));
  try {
    return createPublicKey({ key: tlv(SEQUENCE, Buffer.concat([algorithm, bits])), format: "der", type: "spki" });
  } catch {
    // OpenSSL has no other way to say that it is no key.
    return null;
  }
}

/** The parts of a `SubjectPublicKeyInfo` (RFC 5280 section 4.1). */
function readSpki(spki: Buffer): { readonly algorithm: Buffer; readonly key: Buffer } {
  const { content } = readTlv(spki, 0);
  const { end } = readTlv(content, 0);
  return { algorithm: content.subarray(0, end), key: readTlv(content, end).content.subarray(1) };
}

function integer(magnitude: Uint8Array): Buffer {
  const digits = mpint(magnitude).subarray(4);
  return tlv(INTEGER, digits.length === 0 ? Buffer.of(0) : digits);
}

/** DER (X.690 section 8.1): a tag, a length, and as many bytes. */
function tlv(tag: number, content: Uint8Array): Buffer {
  const { length } = content;
  const head = length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), content]);
}

function readTlv(der: Buffer, at: number): { readonly content: Buffer; readonly end: number } {
  const first = der.readUInt8(at + 1);
  const lengthBytes = first < 0x80 ? 0 : first - 0x80;
  const start = at + 2 + lengthBytes;
  const end = start + (lengthBytes === 0 ? first : der.readUIntBE(at + 2, lengthBytes));
  return { content: der.subarray(start, end), end };
}
