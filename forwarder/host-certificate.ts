import { readStrings, string } from "./ssh-wire.ts";

/** An OpenSSH certificate for a host key (OpenSSH's PROTOCOL.certkeys), offered beside the plain key. */
export interface HostCertificate {
  /** Such as `ssh-ed25519-cert-v01@openssh.com`. */
  readonly algorithm: string;
  /** Type of the plain key, which names the signatures. */
  readonly keyType: string;
  readonly blob: Buffer;
}

const SUFFIX = "-cert-v01@openssh.com";

/** Reads a `-cert.pub` line for a key given by its wire form. Null when it is no certificate, or one for another key. */
export function parseHostCertificate(line: string, keyType: string, keyBlob: Buffer): HostCertificate | null {
  const [algorithm, encoded] = line.trim().split(/\s+/);
  if (algorithm !== `${keyType}${SUFFIX}` || encoded === undefined) return null;
  const blob = Buffer.from(encoded, "base64");
  const nonceAt = string(algorithm).length;
  if (!blob.subarray(0, nonceAt).equals(string(algorithm)) || blob.length < nonceAt + 4) return null;
  const keyAt = nonceAt + 4 + blob.readUInt32BE(nonceAt);
  // After the nonce a certificate holds the parts of its key, without the type in front.
  const parts = keyBlob.subarray(string(keyType).length);
  if (readStrings(parts, 0) === null || !blob.subarray(keyAt, keyAt + parts.length).equals(parts)) return null;
  return { algorithm, keyType, blob };
}
