import type {
  Page,
  SnapshotChange,
  SnapshotCounts,
  SnapshotFilter,
  SnapshotRecord,
  SnapshotWish,
} from "../../durable-objects/contract.ts";
import type { VmRecord, VmSpec } from "../../durable-objects/vm-contract.ts";
import { PLAIN_VM, traitsOf } from "../../durable-objects/vm-spec.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { isSnapshotId, isVmId, newSnapshotId } from "../../protocol/ids.ts";
import { isSlug } from "../../protocol/slug.ts";
import type { Edge } from "../edge.ts";
import { logEvent } from "../log.ts";
import { SNAPSHOT_NOT_FOUND } from "../masks.ts";
import { accountObject, ask, snapshotObject, tell, vmObject } from "../objects.ts";
import { inlineWaitMs, type Pending, taskOrBackground } from "./background.ts";
import { makeOnce, unlessTaken } from "./creations.ts";
import { wishOf } from "./firewall.ts";
import { createVm } from "./vms.ts";

/** Captures a VM's disk as it is now; answers when that is done. */
export async function takeSnapshot(edge: Edge, accountId: string, wish: SnapshotWish): Promise<Result<SnapshotRecord>> {
  if (!isVmId(wish.sourceVmId)) return failure("vm-id-invalid", "A VM id is 20 lower-case letters and digits.");
  return take(edge, accountId, newSnapshotId(edge.randomBytes), wish);
}

async function take(edge: Edge, accountId: string, snapshotId: string, wish: SnapshotWish): Promise<Result<SnapshotRecord>> {
  const taken = await tell(() => snapshotObject(edge.env, snapshotId).take(accountId, snapshotId, wish, edge.traceId));
  return unlessTaken(taken, () => snapshotObject(edge.env, snapshotId).taken(accountId));
}

/** The same, at most once for an idempotency key, and in the background when the caller would rather poll. */
export async function takeSnapshotOrBackground(
  edge: Edge,
  accountId: string,
  wish: SnapshotWish,
): Promise<Result<SnapshotRecord | Pending>> {
  if (!isVmId(wish.sourceVmId)) return takeSnapshot(edge, accountId, wish);
  const waitMs = inlineWaitMs(edge);
  return makeOnce<SnapshotRecord | Pending>(edge, accountId, {
    wish: { snapshot: wish },
    newId: () => newSnapshotId(edge.randomBytes),
    make: (snapshotId) =>
      waitMs === null
        ? take(edge, accountId, snapshotId, wish)
        : taskOrBackground(edge, accountId, wish.sourceVmId, { kind: "snapshot", snapshotId, wish }, waitMs),
  });
}

/** The id of the snapshot that an account means by an id or a slug. */
export async function snapshotIdOf(edge: Edge, accountId: string, named: string): Promise<Result<string>> {
  if (isSnapshotId(named)) return success(named);
  if (!isSlug(named)) return SNAPSHOT_NOT_FOUND;
  return ask(() => accountObject(edge.env, accountId).findSnapshotSlug(named));
}

export async function readSnapshot(edge: Edge, accountId: string, named: string): Promise<Result<SnapshotRecord>> {
  const id = await snapshotIdOf(edge, accountId, named);
  return id.ok ? ask(() => snapshotObject(edge.env, id.value).read(accountId)) : id;
}

export async function changeSnapshot(
  edge: Edge,
  accountId: string,
  named: string,
  change: SnapshotChange,
): Promise<Result<SnapshotRecord>> {
  const id = await snapshotIdOf(edge, accountId, named);
  return id.ok ? tell(() => snapshotObject(edge.env, id.value).change(accountId, change)) : id;
}

/** VMs that began with it stay. */
export async function removeSnapshot(edge: Edge, accountId: string, named: string): Promise<Result<SnapshotRecord>> {
  const id = await snapshotIdOf(edge, accountId, named);
  return id.ok ? tell(() => snapshotObject(edge.env, id.value).remove(accountId, edge.traceId)) : id;
}

export async function listSnapshots(
  edge: Edge,
  accountId: string,
  query: Page & SnapshotFilter,
): Promise<Result<{ snapshots: readonly SnapshotRecord[]; total: number; counts: SnapshotCounts }>> {
  return ask(() => accountObject(edge.env, accountId).listSnapshots(query));
}

/** Builds a snapshot from a description, at most once for an idempotency key: a VM is made so, captured, and deleted. */
export async function buildSnapshot(edge: Edge, accountId: string, spec: VmSpec): Promise<Result<SnapshotRecord>> {
  return makeOnce(edge, accountId, {
    wish: { build: wishOf(spec) },
    newId: () => newSnapshotId(edge.randomBytes),
    make: async (id) => {
      const known = await ask(() => snapshotObject(edge.env, id).taken(accountId));
      return known.ok || known.failure.kind !== "snapshot-not-found" ? known : build(edge, accountId, id, spec);
    },
  });
}

async function build(edge: Edge, accountId: string, snapshotId: string, spec: VmSpec): Promise<Result<SnapshotRecord>> {
  const vm = await createVm(edge, accountId, { ...spec, name: null, idleTimeoutSeconds: null, autoDeleteSeconds: null });
  if (!vm.ok) return vm;
  const { id: sourceVmId } = vm.value;
  const taken = await take(edge, accountId, snapshotId, { sourceVmId, name: spec.name, slug: null });
  await clearAway(edge, "vm", sourceVmId, () => vmObject(edge.env, sourceVmId).remove(accountId, edge.traceId));
  return taken;
}

/** Copies of a VM and where they came from. */
export interface Forks {
  readonly vmId: string;
  readonly forks: readonly VmRecord[];
}

/** Makes copies of a VM, each with its disk as it is now, its sizes and its traits. All or none. */
export async function forkVm(edge: Edge, accountId: string, vmId: string, count: number): Promise<Result<Forks>> {
  if (count > edge.settings.MAX_FORKS) return failure("bad-request", `count: is at most ${edge.settings.MAX_FORKS}.`);
  const taken = await takeSnapshot(edge, accountId, { sourceVmId: vmId, name: null, slug: null });
  if (!taken.ok) return taken;
  const { id: snapshotId } = taken.value;
  const forks = await copies(edge, accountId, vmId, snapshotId, count);
  await clearAway(edge, "snapshot", snapshotId, () => snapshotObject(edge.env, snapshotId).remove(accountId, edge.traceId));
  return forks;
}

async function copies(edge: Edge, accountId: string, vmId: string, snapshotId: string, count: number): Promise<Result<Forks>> {
  const source = await ask(() => vmObject(edge.env, vmId).read(accountId));
  if (!source.ok) return source;
  const firewall = await ask(() => vmObject(edge.env, vmId).firewall(accountId));
  if (!firewall.ok) return firewall;
  const spec: VmSpec = {
    ...PLAIN_VM,
    ...traitsOf(source.value),
    resources: source.value.resources,
    snapshotId,
    firewall: firewall.value,
  };
  const made = await Promise.all(Array.from({ length: count }, () => createVm(edge, accountId, spec)));
  const forks = made.flatMap((vm) => (vm.ok ? [vm.value] : []));
  const refused = made.find((vm) => !vm.ok);
  if (refused === undefined || refused.ok) return success({ vmId, forks });
  await Promise.all(forks.map(({ id }) => clearAway(edge, "vm", id, () => vmObject(edge.env, id).remove(accountId, edge.traceId))));
  return refused;
}

/** Deletes what was only needed on the way. What stays is listed, and can be deleted by its owner. */
async function clearAway(edge: Edge, what: string, id: string, remove: () => Promise<Result<unknown>>): Promise<void> {
  const removed = await tell(remove);
  if (!removed.ok) logEvent("not-cleared-away", { traceId: edge.traceId, what, id, kind: removed.failure.kind });
}
