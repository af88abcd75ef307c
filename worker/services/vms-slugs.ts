import type { ListedVm, SlugWish, VmRecord } from "../../durable-objects/vm-contract.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { isVmId } from "../../protocol/ids.ts";
import { isSlug } from "../../protocol/slug.ts";
import type { Credential } from "../../protocol/tokens.ts";
import { resolvePrincipal } from "../auth/resolve.ts";
import type { Edge } from "../edge.ts";
import { accountObject, ask, tell } from "../objects.ts";

/** The id of the VM that an account means by an id or a slug. Whether the VM is the account's is for its object to say. */
export async function vmIdOf(edge: Edge, accountId: string, named: string): Promise<Result<string>> {
  if (isVmId(named)) return success(named);
  if (!isSlug(named)) return failure("vm-id-invalid", "This is neither a VM's id nor a slug.");
  return ask(() => accountObject(edge.env, accountId).findSlug(named));
}

/** The same for whoever shows a credential; what can be neither id nor slug is passed on, for `authorise` to refuse. */
export async function vmIdNamed(edge: Edge, credential: Credential, named: string): Promise<Result<string>> {
  if (!isSlug(named)) return success(named);
  const principal = await resolvePrincipal(edge, credential);
  return principal.ok ? vmIdOf(edge, principal.value.accountId, named) : principal;
}

/** Adds a VM's slug to its record. */
export async function withSlug(edge: Edge, record: Result<VmRecord>): Promise<Result<ListedVm>> {
  if (!record.ok) return record;
  const { id, accountId } = record.value;
  const slug = await ask(() => accountObject(edge.env, accountId).slugOf(id));
  return slug.ok ? success({ ...record.value, slug: slug.value }) : slug;
}

/** Gives a VM a slug, or takes it away (`null`). */
export async function setSlug(edge: Edge, accountId: string, vmId: string, wish: SlugWish | null): Promise<Result<null>> {
  return tell(() => accountObject(edge.env, accountId).setSlug(vmId, wish));
}
