import { type CryptoKey, importJWK, type JWK } from "jose";
import type { Env } from "../../durable-objects/env.ts";
import type { Failure } from "../../protocol/failures.ts";
import { TICKET_ALGORITHM, ticketKeyId } from "../../protocol/ticket.ts";
import { signingKeysObject } from "../objects.ts";

/** A key that signs tickets now; not to be used at or after `keepUntil` (milliseconds since 1970 UTC). */
export interface Signer {
  readonly kid: string;
  readonly key: CryptoKey;
  readonly keepUntil: number;
}

/** How long a caller waits for a fetch that another request began before it fetches for itself, in milliseconds. */
const SHARED_FETCH_LIMIT_MS = 1_000;

let kept: Signer | null = null;
let inflight: Promise<Signer> | null = null;

/** The key to sign with, from the memory of this isolate while it is good, else from the object. Throws if that fails. */
export async function currentSigner(env: Env, now: number): Promise<Signer> {
  if (kept !== null && now < kept.keepUntil) return kept;
  const shared = inflight;
  if (shared === null) {
    const own = fetchSigner(env);
    inflight = own;
    try {
      return await own;
    } finally {
      if (inflight === own) inflight = null;
    }
  }
  // The request that fetches may be cancelled, and then its promise never settles: never wait for it without a limit.
  let timer: ReturnType<typeof setTimeout> | null = null;
  const limit = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), SHARED_FETCH_LIMIT_MS);
  });
  const signer = await Promise.race([shared.catch(() => null), limit]);
  clearTimeout(timer);
  if (signer !== null) return signer;
  if (inflight === shared) inflight = null;
  return fetchSigner(env);
}

/**
 * Takes note of what a verifier said about a ticket: if the key that signed it was withdrawn, the next ticket is signed with
 * the key that signs now.
 */
export function noteRefusal({ details }: Failure, ticket: string): void {
  if (details?.voidedKey === true) dropSigner(ticketKeyId(ticket));
}

/** Forgets the key with this id, if it is the one that is held. */
export function dropSigner(kid: string | null): void {
  if (kept?.kid === kid) forgetSigner();
}

/** Forgets the key, whichever it is. */
export function forgetSigner(): void {
  kept = null;
  inflight = null;
}

async function fetchSigner(env: Env): Promise<Signer> {
  const { kid, privateJwk, keepUntil } = await signingKeysObject(env).signer();
  const key = await importJWK(privateJwk as JWK, TICKET_ALGORITHM);
  if (key instanceof Uint8Array) throw new Error("the ticket key is not an Ed25519 key");
  const signer = { kid, key, keepUntil };
  if (kept === null || kept.keepUntil < keepUntil) kept = signer;
  return signer;
}
