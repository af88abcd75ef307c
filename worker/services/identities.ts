import type { IdentityRow, Page } from "../../durable-objects/contract.ts";
import { type Result, success } from "../../protocol/failures.ts";
import { isObjectName, newObjectName } from "../../protocol/ids.ts";
import type { Edge } from "../edge.ts";
import { IDENTITY_NOT_FOUND } from "../masks.ts";
import { accountObject, ask, identityObject, tell } from "../objects.ts";
import { narrowing } from "./narrowing.ts";

/** Refuses an id that cannot be an identity's before any storage is touched. */
export function checkIdentityId(identityId: string): Result<string> {
  return isObjectName(identityId) ? success(identityId) : IDENTITY_NOT_FOUND;
}

/** Makes an identity; it enters the account's index by itself. */
export async function createIdentity(edge: Edge, accountId: string, managed: boolean): Promise<Result<IdentityRow>> {
  const id = newObjectName(edge.randomBytes);
  return tell(() => identityObject(edge.env, id).create(accountId, managed));
}

export async function listIdentities(
  edge: Edge,
  accountId: string,
  page: Page & { includeManaged: boolean },
): Promise<Result<{ identities: readonly IdentityRow[]; total: number }>> {
  return ask(() => accountObject(edge.env, accountId).listIdentities(page));
}

export async function describeIdentity(edge: Edge, accountId: string, identityId: string): Promise<Result<IdentityRow>> {
  const id = checkIdentityId(identityId);
  return id.ok ? ask(() => identityObject(edge.env, id.value).describe(accountId)) : id;
}

/** Deletes an identity with its tokens and grants. Narrowing. */
export async function deleteIdentity(edge: Edge, accountId: string, identityId: string): Promise<Result<null>> {
  const id = checkIdentityId(identityId);
  if (!id.ok) return id;
  return narrowing(
    edge,
    () => identityObject(edge.env, id.value),
    (identity) => identity.remove(accountId),
  );
}
