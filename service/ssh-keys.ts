import { createHash, generateKeyPairSync } from "node:crypto";
import type { RandomBytes } from "../protocol/bytes.ts";

const KEY_TYPE = "ssh-ed25519";
const RAW_KEY_BYTES = 32;

/** An ed25519 key pair in the forms that OpenSSH reads. */
export interface SshKeyPair {
  /** PEM of `openssh-key-v1`, without a passphrase. */
  readonly privateKey: string;
  /** `ssh-ed25519 <base64>`: no comment, no newline. */
  readonly publicKey: string;
}

/**
 * Makes an ed25519 key pair in OpenSSH's own format (PROTOCOL.key of OpenSSH; RFC 8709 for the public half).
 * Ours because `ssh2` 1.17.0 makes about one ed25519 pair in 300 that nothing can read.
 */
export function generateSshKeyPair(randomBytes: RandomBytes): SshKeyPair {
  const jwk = generateKeyPairSync("ed25519").privateKey.export({ format: "jwk" });
  const seed = Buffer.from(jwk.d ?? "", "base64url");
  const raw = Buffer.from(jwk.x ?? "", "base64url");
  const blob = Buffer.concat([sshString(KEY_TYPE), sshString(raw)]);
  // The check number is written twice, so that a reader with a wrong passphrase notices.
  const check = Buffer.from(randomBytes(4));
  const secret = Buffer.concat([check, check, blob, sshString(Buffer.concat([seed, raw])), sshString("")]);
  const padding = Buffer.from(Array.from({ length: (8 - (secret.length % 8)) % 8 }, (_, index) => index + 1));
  const body = Buffer.concat([
    Buffer.from("openssh-key-v1\0"),
    sshString("none"),
    sshString("none"),
    sshString(""),
    uint32(1),
    sshString(blob),
    sshString(Buffer.concat([secret, padding])),
  ]);
  const lines = body.toString("base64").match(/.{1,70}/g) ?? [];
  return {
    privateKey: ["-----BEGIN OPENSSH PRIVATE KEY-----", ...lines, "-----END OPENSSH PRIVATE KEY-----", ""].join("\n"),
    publicKey: `${KEY_TYPE} ${blob.toString("base64")}`,
  };
}

/** A public key that was read from a line of text and written anew, so that nothing else of the line is left. */
export interface SshPublicKey {
  /** `ssh-ed25519 <base64>`. */
  readonly line: string;
  /** The wire form (RFC 8709 section 4). */
  readonly blob: Buffer;
  /** `SHA256:<base64, unpadded>`, as `ssh-keygen -l` shows it. */
  readonly fingerprint: string;
}

/**
 * Reads exactly one ed25519 public key line. Anything beside type and key (options, a comment, a second line) is refused,
 * because the line goes into what `AuthorizedKeysCommand` answers, where options and further lines have meaning.
 */
export function parseSshPublicKey(text: string): SshPublicKey | null {
  const match = /^ssh-ed25519 ([A-Za-z0-9+/]{68})$/.exec(text);
  const encoded = match?.[1];
  if (encoded === undefined || text.includes("\n")) return null;
  const blob = Buffer.from(encoded, "base64");
  const header = Buffer.concat([sshString(KEY_TYPE), uint32(RAW_KEY_BYTES)]);
  if (blob.length !== header.length + RAW_KEY_BYTES || !blob.subarray(0, header.length).equals(header)) return null;
  const digest = createHash("sha256").update(blob).digest("base64").replace(/=+$/, "");
  return { line: `${KEY_TYPE} ${blob.toString("base64")}`, blob, fingerprint: `SHA256:${digest}` };
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function sshString(content: string | Buffer): Buffer {
  const bytes = Buffer.from(content as string);
  return Buffer.concat([uint32(bytes.length), bytes]);
}
