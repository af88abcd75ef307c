import type { Result } from "../protocol/failures.ts";
import type { GuestFile, GuestGroup, GuestUser, MachineResources, MachineState, PublicPort } from "../protocol/host-api.ts";
import type { HostPlace } from "./contract.ts";
import type { PlacementWish } from "./placement.ts";

/** States of a VM as the API can name them. */
export type VmState = "starting" | "running" | "suspending" | "suspended" | "stopped" | "deleted" | "lost";

/** What an owner may change about a VM as long as it exists. Times in seconds; `null`: none. */
export interface VmTraits {
  /** Label for people: `name` of 0.1, `displayName` of 0.2. */
  readonly name: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  /** The VM is suspended after so long without use. */
  readonly idleTimeoutSeconds: number | null;
  /** Bytes that count as use. */
  readonly activityThresholdBytes: number | null;
  /** The VM is deleted when it has not run for so long; 0: as soon as it is stopped. */
  readonly autoDeleteSeconds: number | null;
  /** The VM is deleted so long after it was created. */
  readonly ttlSeconds: number | null;
  /** Ports of the guest that everybody reaches by the VM's name. */
  readonly ports: readonly PublicPort[];
}

export interface VmRecord extends VmTraits {
  readonly id: string;
  readonly accountId: string;
  readonly state: VmState;
  readonly region: string;
  readonly hostId: string;
  readonly resources: MachineResources;
  readonly snapshotId: string | null;
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** A VM as its account's index has it. The slug is the account's own: no other object knows it. */
export interface ListedVm extends VmRecord {
  readonly slug: string | null;
}

/** A slug that is wanted for a VM; `reassign` takes it from the VM that holds it. */
export interface SlugWish {
  readonly slug: string;
  readonly reassign: boolean;
}

/** One end of a firewall rule; the members intersect, and none at all means the VM itself. */
export interface FirewallEndpoint {
  readonly vmId?: string | undefined;
  readonly vpcId?: string | undefined;
  readonly tunnelId?: string | undefined;
  readonly cidr?: string | undefined;
  readonly public?: true | undefined;
  readonly port?: number | undefined;
  readonly protocol?: "tcp" | "udp" | "icmp" | undefined;
}

/** What a VM's traffic may do; whatever no rule allows is refused. */
export interface FirewallRule {
  readonly id: string;
  readonly source: FirewallEndpoint;
  readonly destination: FirewallEndpoint;
  readonly description: string | null;
  readonly createdAt: number;
}

/** A VM to make. `PLAIN_VM` in `vm-spec.ts` is the one that asks for nothing. */
export interface VmSpec extends VmTraits {
  readonly users: readonly GuestUser[];
  readonly groups: readonly GuestGroup[];
  readonly files: readonly GuestFile[];
  readonly resources: MachineResources;
  readonly placement: PlacementWish;
  readonly snapshotId: string | null;
  readonly firewall: readonly FirewallRule[];
  readonly slug: SlugWish | null;
  /** The host that has the machine already, when the operator registers one instead of having one made. */
  readonly registeredOn: HostPlace | null;
}

/** What to change about a VM; what is absent stays. Metadata is merged: an empty value removes its key. */
export type VmChange = Partial<VmTraits>;

/** What to list: each member narrows. `metadata`: every pair must be there. */
export interface VmFilter {
  readonly includeDeleted: boolean;
  readonly state?: VmState | undefined;
  readonly slug?: string | undefined;
  readonly snapshotId?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Part of the id, the name or the slug, whatever its case. */
  readonly search?: string | undefined;
}

/** What a grant on a VM is held against. */
export interface VmEpochs {
  /** Raised when the VM is deleted or moves to another account. */
  readonly epoch: number;
  /** The epoch of grants that note none: the VM's own when its object learned that grants note it. */
  readonly unnotedEpoch: number;
}

/** Where a VM is and whose, for whoever forwards to it. */
export interface Placement extends VmEpochs {
  readonly vmId: string;
  readonly accountId: string;
  readonly region: string;
  readonly hostId: string;
  readonly hostUrl: string;
  /** For requests to the VM's name: which port of the guest it leads to. */
  readonly ports: readonly PublicPort[];
  readonly readAt: number;
}

/** What everybody may reach of a VM by its name, and on whose behalf. */
export interface Exposure {
  readonly accountId: string;
  readonly ports: readonly PublicPort[];
}

/** That an account may use what it owns. */
export interface Tenancy {
  readonly accountId: string;
  /** Raised when the account is suspended. */
  readonly epoch: number;
  readonly readAt: number;
}

/** Counts of an account's VMs by state, for list answers. */
export type VmCounts = Readonly<Record<VmState, number>>;

/**
 * Object name: the VM id. `accountId` is the caller's; another account's VM does not exist, nor does a deleted one. `trace` names
 * the caller's request in the host's log.
 */
export interface VmApi {
  /**
   * Places and creates the machine, makes its users, and answers when it runs; a registered one may be down. Undone by alarm
   * if it dies half-way.
   */
  create(accountId: string, vmId: string, spec: VmSpec, trace?: string): Promise<Result<VmRecord>>;
  /** The VM once its creation has ended; `vm-not-found` when it did not come to be. */
  created(accountId: string): Promise<Result<VmRecord>>;
  /** `accountId` null: the caller already holds a verdict on this VM. */
  read(accountId: string | null): Promise<Result<VmRecord>>;
  placement(): Promise<Result<Placement>>;
  /** What is open to everybody; `vm-not-found` for a VM that is not there. */
  exposure(): Promise<Result<Exposure>>;
  /** Narrowing for the account that has the VM: another account of the deployment has it from now on. */
  transfer(toAccountId: string): Promise<Result<VmRecord>>;
  start(accountId: string, trace?: string): Promise<Result<VmRecord>>;
  stop(accountId: string, trace?: string): Promise<Result<VmRecord>>;
  suspend(accountId: string, trace?: string): Promise<Result<VmRecord>>;
  /** `unsupported` for a registered machine: nobody made it. */
  remove(accountId: string, trace?: string): Promise<Result<VmRecord>>;
  /** Takes a registered machine away from its account; the machine itself goes on. `unsupported` for any other. */
  unregister(accountId: string, trace?: string): Promise<Result<VmRecord>>;
  /** Changes traits; when the VM sleeps is told to its host first. More metadata than allowed is `bad-request`. */
  update(accountId: string, change: VmChange, trace?: string): Promise<Result<VmRecord>>;
  /** Gives the machine other sizes; absent ones stay. `growOnly`: refuses what is smaller than it has. */
  resize(accountId: string, wish: MachineResources, growOnly: boolean, trace?: string): Promise<Result<VmRecord>>;
  firewall(accountId: string): Promise<Result<readonly FirewallRule[]>>;
  /** The record as soon as the VM neither runs nor starts, or after `VM_AWAIT_STEP_MS` whatever it is then. */
  untilAtRest(accountId: string): Promise<Result<VmRecord>>;
  /** The VM's epochs, deleted or not; 0 for one that never was. */
  epochs(): Promise<VmEpochs>;
  /** Regions that could not be told yet of what was taken away here. */
  untold(): Promise<readonly string[]>;
  /** The host says the machine changed its state. */
  observe(hostId: string, state: MachineState, at: number): Promise<void>;
}
