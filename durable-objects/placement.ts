import { failure, type Result, success } from "../protocol/failures.ts";
import type { MachineResources } from "../protocol/host-api.ts";

/** What an account may ask of where its VM is. */
export interface PlacementWish {
  /** Null: the deployment's first. */
  readonly region: string | null;
  /** How the machine is made; null: whichever way. */
  readonly driver: string | null;
  /** VMs of one account with the same group are never on one host. */
  readonly spreadGroup: string | null;
}

/** A host as far as placement looks at it. Sizes in MiB; null: the host does not say. */
export interface HostLoad {
  readonly id: string;
  readonly driver: string;
  readonly isConnected: boolean;
  readonly isDraining: boolean;
  readonly capacity: number;
  readonly vmCount: number;
  readonly cpus: number | null;
  readonly memory: number | null;
  /** What is left, VMs that were placed since the host told it taken off. */
  readonly freeMemory: number | null;
  /** Beyond what the host keeps for itself. */
  readonly freeDisk: number | null;
  /** Memory of a VM that asks for none. */
  readonly vmMemory: number | null;
}

/** A VM that wants a place. */
export interface Candidate {
  readonly driver: string | null;
  readonly resources: MachineResources;
  /** Hosts that must not be taken: those of the account's VMs of the same spread group. */
  readonly avoid: ReadonlySet<string>;
}

/** A host of machines that are there already makes none. */
const MAKES_NO_MACHINES = "static";

/** The region of a new VM: the one that is asked for, where what it begins with is, or else the deployment's first. */
export function chooseRegion(wanted: string | null, bound: string | null, regions: readonly string[]): Result<string> {
  const region = bound ?? wanted ?? regions[0];
  if (region === undefined) return failure("no-capacity", "This deployment has no region.");
  if (wanted === null || wanted === region) return success(region);
  return failure("vm-create-bad-request", `placement.region: what the VM begins with is in the region ${region}.`);
}

/**
 * The host for a new VM: of those with room for it the one that has most left of what it has least of, and of equal ones the first.
 * Null when there is none.
 */
export function chooseHost(hosts: readonly HostLoad[], vm: Candidate): HostLoad | null {
  let best: { readonly host: HostLoad; readonly left: number } | null = null;
  for (const host of hosts) {
    if (!hasRoom(host, vm)) continue;
    const left = leftAfter(host, vm);
    if (best === null || left > best.left) best = { host, left };
  }
  return best?.host ?? null;
}

/**
 * Why a VM fits on none of the hosts even when they are empty, in words that name the size; null when one may take it some day, or
 * does not say what it has.
 */
export function beyondEveryHost(hosts: readonly HostLoad[], { cpu, memory }: MachineResources): string | null {
  const makers = hosts.filter(({ driver }) => driver !== MAKES_NO_MACHINES);
  const most = (sizes: readonly (number | null)[]) => Math.max(...sizes.map((size) => size ?? Number.POSITIVE_INFINITY));
  if (makers.length === 0) return null;
  const cpus = most(makers.map((host) => host.cpus));
  if ((cpu ?? 0) > cpus) return `cpu (vcpuCount): no host has more than ${cpus} processors.`;
  const mib = most(makers.map((host) => host.memory));
  return (memory ?? 0) > mib ? `memory (memSizeGb): no host has more than ${mib} MiB.` : null;
}

function hasRoom(host: HostLoad, { driver, resources, avoid }: Candidate): boolean {
  if (!host.isConnected || host.isDraining || host.driver === MAKES_NO_MACHINES || avoid.has(host.id)) return false;
  if (driver !== null && host.driver !== driver) return false;
  if (host.vmCount >= host.capacity || host.freeDisk === 0) return false;
  const fits = (wanted: number | null | undefined, there: number | null) => (wanted ?? 0) <= (there ?? Number.POSITIVE_INFINITY);
  return (
    fits(resources.cpu, host.cpus) && fits(memoryOf(host, resources), host.freeMemory) && fits(resources.storage, host.freeDisk)
  );
}

/** The scarcer of places and memory once the VM is there, as a share of all. */
function leftAfter(host: HostLoad, { resources }: Candidate): number {
  const places = 1 - (host.vmCount + 1) / host.capacity;
  if (host.memory === null || host.freeMemory === null) return places;
  return Math.min(places, (host.freeMemory - (memoryOf(host, resources) ?? 0)) / host.memory);
}

function memoryOf(host: HostLoad, { memory }: MachineResources): number | null {
  return memory ?? host.vmMemory;
}
