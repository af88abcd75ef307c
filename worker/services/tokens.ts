import type { Page, TokenRow } from "../../durable-objects/contract.ts";
import { failure, type Result } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { ask, identityObject, tell } from "../objects.ts";
import { checkIdentityId } from "./identities.ts";
import { narrowing } from "./narrowing.ts";

export interface TokenOptions {
  readonly name: string | null;
  /** Seconds from now; `null`: it never expires. */
  readonly expiresInSeconds: number | null;
}

/** Makes an access token. The answer is the only place where it is ever shown. */
export async function createToken(
  edge: Edge,
  accountId: string,
  identityId: string,
  options: TokenOptions,
): Promise<Result<{ id: string; token: string }>> {
  const id = checkIdentityId(identityId);
  if (!id.ok) return id;
  const { name, expiresInSeconds } = options;
  if (expiresInSeconds !== null && expiresInSeconds > edge.settings.TOKEN_MAX_LIFE_S) {
    return failure("bad-request", `expiresInSeconds is at most ${edge.settings.TOKEN_MAX_LIFE_S}.`);
  }
  const expiresAt = expiresInSeconds === null ? null : edge.clock() + expiresInSeconds * 1000;
  return tell(() => identityObject(edge.env, id.value).createToken(accountId, { name, expiresAt }));
}

export async function listTokens(
  edge: Edge,
  accountId: string,
  identityId: string,
  page: Page,
): Promise<Result<{ tokens: readonly TokenRow[]; total: number }>> {
  const id = checkIdentityId(identityId);
  return id.ok ? ask(() => identityObject(edge.env, id.value).listTokens(accountId, page)) : id;
}

export async function revokeToken(edge: Edge, accountId: string, identityId: string, tokenId: string): Promise<Result<null>> {
  const id = checkIdentityId(identityId);
  if (!id.ok) return id;
  return narrowing(
    edge,
    () => identityObject(edge.env, id.value),
    (identity) => identity.revokeToken(accountId, tokenId),
  );
}
