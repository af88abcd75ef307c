import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import { type Result, success } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { ask, signingKeysObject } from "../objects.ts";

let kept: { readonly getKey: JWTVerifyGetKey; readonly readAt: number } | null = null;

/**
 * The public ticket keys, kept in this isolate as long as any verifier may (`JWKS_MAX_AGE_S`). A ticket of a key that is not
 * among them has them read again, but not more often than `JWKS_COOLDOWN_S` allows: a new key signs at once when all others were
 * withdrawn.
 */
export async function publicTicketKeys(edge: Edge): Promise<Result<JWTVerifyGetKey>> {
  const known = await keysNotOlderThan(edge, edge.settings.JWKS_MAX_AGE_S);
  if (!known.ok) return known;
  return success(async (header, token) => {
    try {
      return await known.value(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      const newer = await keysNotOlderThan(edge, edge.settings.JWKS_COOLDOWN_S);
      if (!newer.ok || newer.value === known.value) throw error;
      return newer.value(header, token);
    }
  });
}

async function keysNotOlderThan(edge: Edge, maxAgeS: number): Promise<Result<JWTVerifyGetKey>> {
  const now = edge.clock();
  if (kept !== null && now < kept.readAt + maxAgeS * 1000) return success(kept.getKey);
  const keys = await ask(async () => success(await signingKeysObject(edge.env).jwks()));
  if (!keys.ok) return keys;
  kept = { getKey: createLocalJWKSet(keys.value as JSONWebKeySet), readAt: now };
  return success(kept.getKey);
}
