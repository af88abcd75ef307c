import type { Page } from "../../durable-objects/contract.ts";
import { readRegions } from "../../durable-objects/settings.ts";
import type { ListedVm, VmCounts, VmFilter, VmRecord, VmSpec } from "../../durable-objects/vm-contract.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { isVmId, newVmId } from "../../protocol/ids.ts";
import type { Edge } from "../edge.ts";
import { base64Bytes } from "../http/base64.ts";
import { accountObject, ask, tell, vmObject } from "../objects.ts";
import type { FreshAuthority } from "./authorise.ts";
import { inlineWaitMs, type Pending, taskOrBackground } from "./background.ts";
import { makeOnce, unlessTaken } from "./creations.ts";
import { wishOf } from "./firewall.ts";
import { narrowing } from "./narrowing.ts";

/** Makes a VM and its users; answers when it runs. */
export async function createVm(edge: Edge, accountId: string, spec: VmSpec): Promise<Result<VmRecord>> {
  const checked = checkSpec(edge, spec);
  return checked.ok ? create(edge, accountId, newVmId(edge.randomBytes), spec) : checked;
}

/** The same, at most once for an idempotency key, and in the background when the caller would rather poll. */
export async function createVmOrBackground(edge: Edge, accountId: string, spec: VmSpec): Promise<Result<VmRecord | Pending>> {
  const checked = checkSpec(edge, spec);
  if (!checked.ok) return checked;
  const waitMs = inlineWaitMs(edge);
  return makeOnce<VmRecord | Pending>(edge, accountId, {
    wish: { vm: wishOf(spec) },
    newId: () => newVmId(edge.randomBytes),
    make: (id) =>
      waitMs === null ? create(edge, accountId, id, spec) : taskOrBackground(edge, accountId, id, { kind: "create", spec }, waitMs),
  });
}

/**
 * Undoes a creation whose caller leaves before it is told the id: nobody would know of the VM, and whoever asks again gets
 * another. With an idempotency key it stays, since asking again finds it.
 */
function undoIfLeft(edge: Edge, accountId: string, vmId: string): void {
  if (edge.idempotencyKey !== null) return;
  const undo = () => edge.waitUntil(tell(() => vmObject(edge.env, vmId).remove(accountId, edge.traceId)));
  edge.callerLeft.addEventListener("abort", undo, { once: true });
}

async function create(edge: Edge, accountId: string, vmId: string, spec: VmSpec): Promise<Result<VmRecord>> {
  undoIfLeft(edge, accountId, vmId);
  const made = await tell(() => vmObject(edge.env, vmId).create(accountId, vmId, spec, edge.traceId));
  return unlessTaken(made, () => vmObject(edge.env, vmId).created(accountId));
}

/** Refuses what no host is asked for. */
function checkSpec(edge: Edge, spec: VmSpec): Result<null> {
  const { region } = spec.placement;
  const regions = readRegions(edge.env.REGIONS);
  if (region !== null && !regions.includes(region)) {
    return failure("vm-create-bad-request", `placement.region: there is no such region. There are: ${regions.join(", ")}.`);
  }
  const repeated = firstRepeated(spec.users.map((user) => user.name));
  if (repeated !== null) return failure("linux-user-duplicate", `The Linux user ${repeated} is listed twice.`);
  const repeatedGroup = firstRepeated(spec.groups.map((group) => group.name));
  if (repeatedGroup !== null) return failure("vm-create-bad-request", `The group ${repeatedGroup} is listed twice.`);
  const bytes = spec.files.reduce((sum, { content }) => sum + base64Bytes(content), 0);
  const { MAX_CREATE_FILES_BYTES: maxBytes } = edge.settings;
  if (bytes > maxBytes) {
    return failure("payload-too-large", `The files of a new VM hold at most ${maxBytes} bytes together.`, { maxBytes });
  }
  return success(null);
}

export async function listVms(
  edge: Edge,
  accountId: string,
  query: Page & VmFilter,
): Promise<Result<{ vms: readonly ListedVm[]; total: number; counts: VmCounts }>> {
  return ask(() => accountObject(edge.env, accountId).listVms(query));
}

/** A VM's record, read from its object: what the edge answers itself never comes from a cache. */
export async function readVm(edge: Edge, { verdict }: FreshAuthority): Promise<Result<VmRecord>> {
  return await ask(() => vmObject(edge.env, verdict.vmId).read(verdict.accountId));
}

/** Starts or wakes a VM; running already is success. */
export async function startVm(edge: Edge, { verdict }: FreshAuthority): Promise<Result<VmRecord>> {
  return await tell(() => vmObject(edge.env, verdict.vmId).start(verdict.accountId, edge.traceId));
}

/** What only the owner may do to a machine. */
export type OwnerAction = "stop" | "suspend" | "remove";

export async function actAsOwner(edge: Edge, accountId: string, vmId: string, action: OwnerAction): Promise<Result<VmRecord>> {
  if (!isVmId(vmId)) return failure("vm-id-invalid", "A VM id is 20 lower-case letters and digits.");
  const vm = () => vmObject(edge.env, vmId);
  if (action === "remove") return narrowing(edge, vm, (object) => object.remove(accountId, edge.traceId));
  return await tell(() => vm()[action](accountId, edge.traceId));
}

function firstRepeated(names: readonly string[]): string | null {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) return name;
    seen.add(name);
  }
  return null;
}
