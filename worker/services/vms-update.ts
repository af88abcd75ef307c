import type { FirewallRule, ListedVm, SlugWish, VmChange, VmRecord } from "../../durable-objects/vm-contract.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { accountSubject } from "../../protocol/subjects.ts";
import type { Edge } from "../edge.ts";
import { ask, tell, vmObject } from "../objects.ts";
import type { FreshAuthority } from "./authorise.ts";
import { setSlug, vmIdOf, withSlug } from "./vms-slugs.ts";

/** What to change about a VM. `slug`: null takes it away, absent leaves it. */
export interface VmUpdate {
  readonly change: VmChange;
  readonly slug?: SlugWish | null;
}

/** Changes a VM that an id or a slug names. The slug comes first: it is what another VM can stand in the way of. */
export async function updateVm(
  edge: Edge,
  accountId: string,
  named: string,
  { change, slug }: VmUpdate,
): Promise<Result<VmRecord>> {
  const id = await vmIdOf(edge, accountId, named);
  if (!id.ok) return id;
  const vm = await ask(() => vmObject(edge.env, id.value).read(accountId));
  if (!vm.ok) return vm;
  const slugged = slug === undefined ? null : await setSlug(edge, accountId, id.value, slug);
  if (slugged?.ok === false) return slugged;
  return await tell(() => vmObject(edge.env, id.value).update(accountId, change, edge.traceId));
}

/** What a start may change on the way, if it asks for anything: the owner's to decide, not an access token's. */
export async function changeOnStart(edge: Edge, { verdict }: FreshAuthority, change: VmChange): Promise<Result<null>> {
  if (Object.keys(change).length === 0) return success(null);
  const { vmId, accountId, subject } = verdict;
  if (subject !== accountSubject(accountId)) {
    return failure("forbidden", "An access token may start a VM, but not change when it sleeps. Use an API key.");
  }
  const changed = await tell(() => vmObject(edge.env, vmId).update(accountId, change, edge.traceId));
  return changed.ok ? success(null) : changed;
}

/** The firewall rules that were made with a VM. */
export async function vmFirewall(
  edge: Edge,
  accountId: string,
  named: string,
): Promise<Result<{ vm: ListedVm; rules: readonly FirewallRule[] }>> {
  const id = await vmIdOf(edge, accountId, named);
  if (!id.ok) return id;
  const vm = await withSlug(edge, await ask(() => vmObject(edge.env, id.value).read(accountId)));
  if (!vm.ok) return vm;
  const rules = await ask(() => vmObject(edge.env, id.value).firewall(accountId));
  return rules.ok ? success({ vm: vm.value, rules: rules.value }) : rules;
}
