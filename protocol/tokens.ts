import type { CryptoKey } from "jose";
import { BASE32_PATTERN, encodeBase32 } from "./base32.ts";
import { equalInConstantTime, type RandomBytes, sha256Hex, utf8 } from "./bytes.ts";
import { isObjectName, ROUTING_LENGTH } from "./ids.ts";

/** What a credential proves: an identity, an account, or a host or forwarder of one region. */
export type CredentialKind = "access-token" | "api-key" | "service-key";

const PREFIXES = { "access-token": "pst", "api-key": "psk", "service-key": "pss" } as const satisfies Record<
  CredentialKind,
  string
>;
const KINDS = new Map<string, CredentialKind>(Object.entries(PREFIXES).map(([kind, prefix]) => [prefix, kind as CredentialKind]));

const SECRET_LENGTH = 24;
const MAC_LENGTH = 6;
const BODY_LENGTH = ROUTING_LENGTH + SECRET_LENGTH + MAC_LENGTH;

/** Length of every credential: prefix, underscore, routing, secret, MAC. At most 50, so that it fits `ControlPath %r`. */
export const CREDENTIAL_LENGTH = 3 + 1 + BODY_LENGTH;

/**
 * A credential whose shape and MAC are right. That says only that this deployment once minted it: whether it is live is
 * for the object that `routing` names to say, and `routing` is a hint until that object finds `secretHash`.
 */
export interface Credential {
  readonly kind: CredentialKind;
  /** Name of the object that knows the secret: identity, account or region. */
  readonly routing: string;
  /** SHA-256 of the secret part, 64 hexadecimal digits: all that is ever stored. */
  readonly secretHash: string;
}

export type ParsedCredential =
  | { readonly ok: true; readonly credential: Credential }
  | { readonly ok: false; readonly reason: "shape" | "mac" };

/** HMAC-SHA-256 keys for the MAC part, newest first: the first one mints, every one verifies. */
export type MacKeys = readonly [CryptoKey, ...CryptoKey[]];

/**
 * Reads MAC keys from a setting: base64url keys of at least 16 bytes, separated by commas, newest first.
 * Throws when the setting holds no key or a bad one: a deployment without its keys must not start.
 */
export async function importMacKeys(setting: string): Promise<MacKeys> {
  const keys = await Promise.all(
    setting
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "")
      .map(importMacKey),
  );
  const [first, ...rest] = keys;
  if (first === undefined) throw new Error("TOKEN_MAC_KEYS holds no key");
  return [first, ...rest];
}

async function importMacKey(encoded: string): Promise<CryptoKey> {
  const binary = atob(encoded.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  if (bytes.length < 16) throw new Error("a key in TOKEN_MAC_KEYS is shorter than 16 bytes");
  return crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
}

/** Makes a new credential. `text` is shown to its owner once; only `secretHash` may be kept. */
export async function mintCredential(
  kind: CredentialKind,
  routing: string,
  macKeys: MacKeys,
  randomBytes: RandomBytes,
): Promise<{ text: string; secretHash: string }> {
  const secret = encodeBase32(randomBytes(15));
  const prefix = PREFIXES[kind];
  const mac = await computeMac(macKeys[0], prefix, routing, secret);
  return { text: `${prefix}_${routing}${secret}${mac}`, secretHash: await sha256Hex(secret) };
}

/**
 * Checks the shape and the MAC of a credential without touching storage, so that a forgery costs nothing but this.
 * A MAC is six digits (30 bits): it sheds guesses, it does not authenticate.
 */
export async function parseCredential(text: string, macKeys: MacKeys): Promise<ParsedCredential> {
  const kind = KINDS.get(text.slice(0, 3));
  const body = text.slice(4);
  if (kind === undefined || text[3] !== "_" || body.length !== BODY_LENGTH || !BASE32_PATTERN.test(body)) {
    return { ok: false, reason: "shape" };
  }
  const routing = body.slice(0, ROUTING_LENGTH);
  const secret = body.slice(ROUTING_LENGTH, ROUTING_LENGTH + SECRET_LENGTH);
  const mac = body.slice(-MAC_LENGTH);
  if (!isObjectName(routing)) return { ok: false, reason: "shape" };
  for (const key of macKeys) {
    if (equalInConstantTime(await computeMac(key, PREFIXES[kind], routing, secret), mac)) {
      return { ok: true, credential: { kind, routing, secretHash: await sha256Hex(secret) } };
    }
  }
  return { ok: false, reason: "mac" };
}

async function computeMac(key: CryptoKey, prefix: string, routing: string, secret: string): Promise<string> {
  const signature = new Uint8Array(await crypto.subtle.sign("HMAC", key, utf8(`${prefix}_${routing}${secret}`)));
  return encodeBase32(signature.subarray(0, 5)).slice(0, MAC_LENGTH);
}

/** How a credential may appear in a log: its kind's prefix and the first eight digits of the hash of its secret. */
export function credentialLogName(credential: Credential): string {
  return `${PREFIXES[credential.kind]}:${credential.secretHash.slice(0, 8)}`;
}
