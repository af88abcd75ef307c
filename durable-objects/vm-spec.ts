import { failure, type Result } from "../protocol/failures.ts";
import type { MachineResources } from "../protocol/host-api.ts";
import type { VmChange, VmSpec, VmTraits } from "./vm-contract.ts";

/** Most metadata entries of a VM, and most characters of a key and of a value: what 0.2 states. */
export const MAX_METADATA_ENTRIES = 64;
export const MAX_METADATA_LENGTH = 63;

/** Traits of a VM for which nothing was chosen. */
const PLAIN_TRAITS: VmTraits = {
  name: null,
  metadata: {},
  idleTimeoutSeconds: null,
  activityThresholdBytes: null,
  autoDeleteSeconds: null,
  ttlSeconds: null,
  ports: [],
};

/** A VM that asks for nothing; without a firewall rule it reaches no internet. */
export const PLAIN_VM: VmSpec = {
  ...PLAIN_TRAITS,
  users: [],
  groups: [],
  files: [],
  resources: {},
  snapshotId: null,
  placement: { region: null, driver: null, spreadGroup: null },
  registeredOn: null,
  firewall: [],
  slug: null,
};

/** The traits among a specification's members. */
export function traitsOf(spec: VmTraits): VmTraits {
  const { name, metadata, idleTimeoutSeconds, activityThresholdBytes, autoDeleteSeconds, ttlSeconds, ports } = spec;
  return { name, metadata, idleTimeoutSeconds, activityThresholdBytes, autoDeleteSeconds, ttlSeconds, ports };
}

/** Traits after a change; metadata is merged, and an empty value removes its key. */
export function changedTraits(before: VmTraits, change: VmChange): VmTraits {
  const merged = Object.entries({ ...before.metadata, ...change.metadata }).filter(([, value]) => value !== "");
  return traitsOf({ ...before, ...change, metadata: Object.fromEntries(merged) });
}

/** Why a VM cannot be given other sizes, or null; a host may still refuse them. */
export function refuseSizes(now: MachineResources, wish: MachineResources, growOnly: boolean): Result<never> | null {
  const named = (["cpu", "memory", "storage"] as const).filter((member) => wish[member] !== undefined);
  if (named.length === 0) {
    return failure("resize-bad-request", "Name at least one of cpu (vcpuCount), memory (memSizeGb) and storage (rootfsSizeGb).");
  }
  const smaller = named.find((member) => (wish[member] ?? 0) < (now[member] ?? 0));
  if (!growOnly || smaller === undefined) return null;
  return failure("resize-bad-request", `${smaller}: this VM has ${now[smaller]}, and sizes can only grow.`);
}

/** Whether a host that knew `before` must be told of `after`. */
export function differsInIdleness(before: VmTraits, after: VmTraits): boolean {
  return before.idleTimeoutSeconds !== after.idleTimeoutSeconds || before.activityThresholdBytes !== after.activityThresholdBytes;
}

/** Reads stored traits; a member that was added since they were stored is at its default. */
export function readTraits(stored: string): VmTraits {
  return { ...PLAIN_TRAITS, ...(JSON.parse(stored) as Partial<VmTraits>) };
}

/** Reads a stored specification likewise. */
export function readSpec(stored: string): VmSpec {
  return { ...PLAIN_VM, ...(JSON.parse(stored) as Partial<VmSpec>) };
}
