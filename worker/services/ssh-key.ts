import { decodeBase64, encodeBase64 } from "../http/base64.ts";

const KEY_LINE_PATTERN = /^(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-[a-z0-9@.-]+) ([A-Za-z0-9+/]+={0,2})(?: .*)?$/;

/** Longest public key line that is looked at; a 16384-bit RSA key has about 2,800 characters. */
const MAX_KEY_LINE_LENGTH = 8192;

/**
 * The `SHA256:` fingerprint of an OpenSSH public key line, as `ssh-keygen -l` prints it: SHA-256 of the key blob (RFC 4253
 * section 6.6) in unpadded base64. Null when the line is no public key.
 */
export async function sshKeyFingerprint(line: string): Promise<string | null> {
  const text = line.trim();
  const encoded = text.length > MAX_KEY_LINE_LENGTH ? undefined : KEY_LINE_PATTERN.exec(text)?.[1];
  const blob = encoded === undefined ? null : decodeBase64(encoded);
  if (blob === null || readAlgorithm(blob) !== text.slice(0, text.indexOf(" "))) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", blob));
  return `SHA256:${encodeBase64(digest).replace(/=+$/, "")}`;
}

/** The first string of a key blob names its algorithm and must agree with the line (RFC 4251 section 5: length, bytes). */
function readAlgorithm(blob: Uint8Array<ArrayBuffer>): string | null {
  if (blob.length < 4) return null;
  const length = new DataView(blob.buffer).getUint32(0);
  return length > blob.length - 4 ? null : new TextDecoder().decode(blob.subarray(4, 4 + length));
}
