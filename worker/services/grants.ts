import type { GrantedVm, GrantRow, IdentityApi, Page } from "../../durable-objects/contract.ts";
import { type Result, success } from "../../protocol/failures.ts";
import { isVmId } from "../../protocol/ids.ts";
import type { AccountPrincipal } from "../auth/principal.ts";
import type { Edge } from "../edge.ts";
import { VM_NOT_FOUND } from "../masks.ts";
import { ask, identityObject, tell, vmObject } from "../objects.ts";
import { checkIdentityId } from "./identities.ts";
import { widened } from "./known.ts";
import { narrowing } from "./narrowing.ts";

/** Which grant: one identity on one VM. */
export interface GrantKey {
  readonly identityId: string;
  readonly vmId: string;
}

/** Grants a VM of the account to an identity of the account; `allowedUsers` null admits any Linux user. */
export async function grantVm(
  edge: Edge,
  account: AccountPrincipal,
  key: GrantKey,
  allowedUsers: readonly string[] | null,
): Promise<Result<GrantRow>> {
  const id = checkIdentityId(key.identityId);
  if (!id.ok) return id;
  if (!isVmId(key.vmId)) return VM_NOT_FOUND;
  const vm = await ask(() => vmObject(edge.env, key.vmId).read(account.accountId));
  if (!vm.ok) return vm;
  const granted = await withEpochs(edge, key.vmId, (now) =>
    tell(() => identityObject(edge.env, id.value).grant(account.accountId, now, allowedUsers, account.keyId)),
  );
  await widened(edge, id.value);
  return granted;
}

export async function listGrants(
  edge: Edge,
  accountId: string,
  identityId: string,
  page: Page,
): Promise<Result<{ grants: readonly GrantRow[]; total: number }>> {
  const id = checkIdentityId(identityId);
  return id.ok ? ask(() => identityObject(edge.env, id.value).listGrants(accountId, page)) : id;
}

export async function getGrant(edge: Edge, accountId: string, key: GrantKey): Promise<Result<GrantRow>> {
  return withIdentity(edge, key, (identity) => ask(() => identity().getGrant(accountId, key.vmId)));
}

/** Narrowing unless everybody admitted before still is. */
export async function updateGrant(
  edge: Edge,
  accountId: string,
  key: GrantKey,
  allowedUsers: readonly string[] | null,
): Promise<Result<GrantRow>> {
  return withIdentity(edge, key, async (identity) => {
    const updated = await withEpochs(edge, key.vmId, (vm) =>
      narrowing(edge, identity, (object) => object.updateGrant(accountId, vm, allowedUsers)),
    );
    await widened(edge, key.identityId);
    return updated;
  });
}

/** Narrowing. */
export async function revokeGrant(edge: Edge, accountId: string, key: GrantKey): Promise<Result<null>> {
  return withIdentity(edge, key, (identity) => narrowing(edge, identity, (object) => object.revokeGrant(accountId, key.vmId)));
}

/** With the VM's epochs now: if the account loses the VM meanwhile, what is granted is void. */
async function withEpochs<T>(edge: Edge, vmId: string, use: (vm: GrantedVm) => Promise<Result<T>>): Promise<Result<T>> {
  const epochs = await ask(async () => success(await vmObject(edge.env, vmId).epochs()));
  return epochs.ok ? use({ id: vmId, ...epochs.value }) : epochs;
}

async function withIdentity<T>(
  edge: Edge,
  key: GrantKey,
  use: (identity: () => IdentityApi) => Promise<Result<T>>,
): Promise<Result<T>> {
  const id = checkIdentityId(key.identityId);
  return id.ok ? use(() => identityObject(edge.env, id.value)) : id;
}
