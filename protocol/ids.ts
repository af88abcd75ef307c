import { encodeBase32 } from "./base32.ts";
import { type RandomBytes, utf8 } from "./bytes.ts";

/** Digits of the routing part of a credential; account, identity and region object names have this form. */
export const ROUTING_LENGTH = 16;

const ROUTING_PATTERN = /^[a-z2-7]{16}$/;
const VM_ID_PATTERN = /^[a-z0-9]{20}$/;

/** A new object name: 80 random bits as 16 lower-case base32 digits. Used for accounts and identities. */
export function newObjectName(randomBytes: RandomBytes): string {
  return encodeBase32(randomBytes(10));
}

/** Whether a string has the form of an account, identity or region object name. */
export function isObjectName(text: string): boolean {
  return ROUTING_PATTERN.test(text);
}

/** A new VM id: 100 random bits as 20 of `[a-z2-7]`, a DNS label and safe in an SSH user name. */
export function newVmId(randomBytes: RandomBytes): string {
  return encodeBase32(randomBytes(13)).slice(0, 20);
}

/** Whether a string has the form of a VM id: 20 of `[a-z0-9]`. */
export function isVmId(text: string): boolean {
  return VM_ID_PATTERN.test(text);
}

/** A new snapshot id, in the form of a VM id. */
export const newSnapshotId = newVmId;

/** Whether a string has the form of a snapshot id. */
export const isSnapshotId = isVmId;

/** A new id of a request that goes on in the background: `ri-` and 20 of `[a-z2-7]`. */
export function newBackgroundId(randomBytes: RandomBytes): string {
  return `ri-${newVmId(randomBytes)}`;
}

/** Whether a string has the form of such an id. */
export function isBackgroundId(text: string): boolean {
  return text.startsWith("ri-") && isVmId(text.slice(3));
}

/** A new id for a row that is addressed only through its owner (a token, a grant, a key): 80 random bits. */
export const newRowId = newObjectName;

/**
 * The object name of a region: the first 80 bits of SHA-256 over its name, so that a service key can route to its
 * region as an access token routes to its identity.
 */
export async function regionObjectName(region: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(`region:${region}`)));
  return encodeBase32(digest.subarray(0, 10));
}
