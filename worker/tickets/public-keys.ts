import { createLocalJWKSet, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import { type Result, success } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { ask, signingKeysObject } from "../objects.ts";

let kept: { readonly getKey: JWTVerifyGetKey; readonly until: number } | null = null;

/** The public ticket keys, kept in this isolate as long as any verifier may (`JWKS_MAX_AGE_S`). */
export async function publicTicketKeys(edge: Edge): Promise<Result<JWTVerifyGetKey>> {
  const now = edge.clock();
  if (kept !== null && now < kept.until) return success(kept.getKey);
  const keys = await ask(async () => success(await signingKeysObject(edge.env).jwks()));
  if (!keys.ok) return keys;
  kept = { getKey: createLocalJWKSet(keys.value as JSONWebKeySet), until: now + edge.settings.JWKS_MAX_AGE_S * 1000 };
  return success(kept.getKey);
}
