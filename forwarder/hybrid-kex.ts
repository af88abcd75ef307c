import * as crypto from "node:crypto";

/**
 * ML-KEM-768 together with X25519 (draft-ietf-sshm-mlkem-hybrid-kex): who records a session today cannot open it with a quantum
 * computer later, and OpenSSH 10.1 and newer warn where neither side has such an exchange.
 */
export const HYBRID_KEX = "mlkem768x25519-sha256";

const MLKEM_KEY_BYTES = 1184;
const X25519_KEY_BYTES = 32;

/** Everything before the key itself in its `SubjectPublicKeyInfo` (RFC 5280; object ids of NIST's and of RFC 8410). */
const MLKEM_SPKI = Buffer.from("308204b2300b0609608648016503040402038204a100", "hex");
const X25519_SPKI = Buffer.from("302a300506032b656e032100", "hex");

export interface HybridAnswer {
  /** `S_REPLY`: ML-KEM's ciphertext and the server's X25519 key. */
  readonly reply: Buffer;
  /** `K`: 32 bytes, in the exchange hash and the derivation of keys as a `string` (RFC 4251 section 5), not an `mpint`. */
  readonly secret: Buffer;
}

/** Whether this Node can do it: from 24.7 on. */
export function hybridKexSupported(): boolean {
  return typeof crypto.encapsulate === "function";
}

/**
 * The server's side of the exchange. `init`: `C_INIT`, ML-KEM's public key and the client's X25519 key. Null when it is no such
 * pair: a wrong length, a key that ML-KEM does not admit (FIPS 203 section 7.2), an X25519 point of small order.
 */
export function answerHybrid(init: Uint8Array): HybridAnswer | null {
  if (init.length !== MLKEM_KEY_BYTES + X25519_KEY_BYTES) return null;
  try {
    const kem = crypto.encapsulate(publicKey(MLKEM_SPKI, init.subarray(0, MLKEM_KEY_BYTES)));
    const ours = crypto.generateKeyPairSync("x25519");
    const classical = crypto.diffieHellman({
      privateKey: ours.privateKey,
      publicKey: publicKey(X25519_SPKI, init.subarray(MLKEM_KEY_BYTES)),
    });
    return {
      reply: Buffer.concat([kem.ciphertext, ours.publicKey.export({ type: "spki", format: "der" }).subarray(X25519_SPKI.length)]),
      secret: crypto.createHash("sha256").update(kem.sharedKey).update(classical).digest(),
    };
  } catch {
    // OpenSSL throws for a key that is none; it has no other way to say so.
    return null;
  }
}

function publicKey(prefix: Buffer, key: Uint8Array): crypto.KeyObject {
  return crypto.createPublicKey({ key: Buffer.concat([prefix, key]), format: "der", type: "spki" });
}
