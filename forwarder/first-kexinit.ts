import { readNameLists } from "./ssh-wire.ts";

/** What a client names in its first KEXINIT, which nothing encrypts yet. */
export type FirstKexinit =
  /** It is not whole yet. */
  | { readonly kind: "more" }
  /** Ciphers in the client's order, for what it sends and for what it gets. */
  | { readonly kind: "ciphers"; readonly up: readonly string[]; readonly down: readonly string[] }
  /** The connection begins with something else, or with one that is longer or other than any client's. */
  | { readonly kind: "other" };

/** OpenSSH's has about 1,600 bytes. */
export const MAX_FIRST_KEXINIT_BYTES = 8_192;

const SSH_MSG_KEXINIT = 20;

/** After the length and the padding length: the message type and the cookie (RFC 4253 sections 6 and 7.1). */
const LISTS_AT = 5 + 17;

/** Reads it from what follows the identification line. */
export function readFirstKexinit(bytes: Uint8Array): FirstKexinit {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (all.length < 4) return { kind: "more" };
  const end = 4 + all.readUInt32BE(0);
  if (end > MAX_FIRST_KEXINIT_BYTES || end < LISTS_AT) return { kind: "other" };
  if (all.length > 5 && all[5] !== SSH_MSG_KEXINIT) return { kind: "other" };
  if (all.length < end) return { kind: "more" };
  const [, , up, down] = readNameLists(all.subarray(0, end), LISTS_AT, 4) ?? [];
  return up === undefined || down === undefined ? { kind: "other" } : { kind: "ciphers", up, down };
}
