import { createPrivateKey, type KeyObject, sign } from "node:crypto";
import ssh2 from "ssh2";
import { SSH_MESSAGE } from "./ssh-messages.ts";
import { mpint, readStrings, string } from "./ssh-wire.ts";

/** Global requests by which a server's keys rotate (OpenSSH's PROTOCOL, section 2.5). */
export const ANNOUNCE_HOST_KEYS = "hostkeys-00@openssh.com";
export const PROVE_HOST_KEYS = "hostkeys-prove-00@openssh.com";

/** What of a connection a proof is bound to. */
export interface ProofContext {
  /** The exchange hash of the first key exchange (RFC 4253 section 7.2). */
  readonly sessionId: Uint8Array;
  /** The host key algorithm that was negotiated: an RSA proof must use the same one. */
  readonly hostKeyAlgorithm: string;
}

interface ProvableKey {
  readonly type: string;
  readonly blob: Buffer;
  readonly key: KeyObject;
}

/** The host keys that a client is told about and may have proven: those in use and those to come. */
export class HostKeyRing {
  readonly #keys: readonly ProvableKey[];
  /** The announcement, as a payload; it wants no reply. */
  readonly announcement: Buffer;

  /** `privateKeys`: OpenSSH format, those in use first. Throws when one cannot be read. */
  constructor(privateKeys: readonly string[]) {
    this.#keys = privateKeys.map(readKey);
    this.announcement = Buffer.concat([
      Buffer.of(SSH_MESSAGE.GLOBAL_REQUEST),
      string(ANNOUNCE_HOST_KEYS),
      Buffer.of(0),
      ...this.#keys.map(({ blob }) => string(blob)),
    ]);
  }

  /** The answer to a request for proofs: one signature for each key asked about, or a refusal when one is not ours. */
  prove(request: Uint8Array, context: ProofContext): Buffer {
    const refusal = Buffer.of(SSH_MESSAGE.REQUEST_FAILURE);
    const blobs = readStrings(request, 1 + string(PROVE_HOST_KEYS).length + 1);
    if (blobs === null || blobs.length === 0 || blobs.length > this.#keys.length) return refusal;
    const proofs: Buffer[] = [];
    for (const blob of blobs) {
      const known = this.#keys.find((candidate) => candidate.blob.equals(blob));
      if (known === undefined) return refusal;
      const signed = Buffer.concat([string(PROVE_HOST_KEYS), string(context.sessionId), string(blob)]);
      proofs.push(string(signature(known, signed, context.hostKeyAlgorithm)));
    }
    return Buffer.concat([Buffer.of(SSH_MESSAGE.REQUEST_SUCCESS), ...proofs]);
  }
}

function readKey(privateKey: string): ProvableKey {
  const parsed = ssh2.utils.parseKey(privateKey);
  if (parsed instanceof Error) throw parsed;
  return { type: parsed.type, blob: parsed.getPublicSSH(), key: createPrivateKey(parsed.getPrivatePEM()) };
}

/** RFC 8709 section 6, RFC 8332 section 3, RFC 5656 section 3.1.2. */
function signature({ type, key }: ProvableKey, data: Buffer, negotiated: string): Buffer {
  if (type === "ssh-rsa") {
    const algorithm = negotiated === "rsa-sha2-256" ? "rsa-sha2-256" : "rsa-sha2-512";
    return Buffer.concat([string(algorithm), string(sign(algorithm === "rsa-sha2-256" ? "sha256" : "sha512", data, key))]);
  }
  if (type === "ssh-ed25519") return Buffer.concat([string(type), string(sign(null, data, key))]);
  const pair = sign("sha256", data, { key, dsaEncoding: "ieee-p1363" });
  const half = pair.length / 2;
  return Buffer.concat([string(type), string(Buffer.concat([mpint(pair.subarray(0, half)), mpint(pair.subarray(half))]))]);
}
