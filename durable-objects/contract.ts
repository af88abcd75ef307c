import type { Result } from "../protocol/failures.ts";
import type { Floor } from "../protocol/floors.ts";
import type { MachineResources } from "../protocol/host-api.ts";
import type { Operation } from "../protocol/operations.ts";
import type { Subject } from "../protocol/subjects.ts";
import type { CreationsApi } from "./creations.ts";
import type { RegionServicesApi } from "./service-contract.ts";
import type { ListedVm, SlugWish, Tenancy, VmCounts, VmEpochs, VmFilter, VmRecord } from "./vm-contract.ts";

/**
 * The typed RPC between the Worker and the Durable Objects: plain data and discriminated unions only, since class
 * instances do not survive RPC. Times are milliseconds since 1970 UTC unless a name says otherwise.
 */

/**
 * Headers that the Worker sets on the upgrade request it passes to `Region.fetch`, once the service's assertion is checked;
 * it overwrites whatever the caller sent under these names.
 */
export const FEED_REGION_HEADER = "postern-feed-region";
export const FEED_SERVICE_HEADER = "postern-feed-service";

/** One page of a list, by offset, as every dialect counts. */
export interface Page {
  readonly offset: number;
  readonly limit: number;
}

/** What an API key resolves to, with the time its account was read. */
export interface AccountStanding {
  readonly accountId: string;
  readonly keyId: string;
  readonly epoch: number;
  readonly readAt: number;
}

/** What an access token resolves to. */
export interface IdentityStanding {
  readonly accountId: string;
  readonly identityId: string;
  readonly tokenId: string;
  readonly epoch: number;
  readonly readAt: number;
}

/** Which of its account's holds on a VM a grant belongs to. */
export interface GrantHold {
  /** The VM's epoch when it was given: a grant ends with that hold, for good. Null: given before this was noted. */
  readonly vmEpoch: number | null;
}

/** "This principal may do this operation on this VM as this Linux user": what a ticket signs. */
export interface Verdict {
  readonly subject: Subject;
  readonly accountId: string;
  /** Token or key id behind the verdict, for audit. */
  readonly credentialId: string;
  readonly vmId: string;
  readonly operation: Operation;
  readonly linuxUser: string | null;
  readonly epoch: number;
  readonly readAt: number;
  /** When the credential behind it expires by itself; neither a cached verdict nor a ticket may outlive it. */
  readonly expiresAt: number | null;
  /** The grant that it hangs on; null: none, as an API key's. */
  readonly grant: GrantHold | null;
}

export interface VerdictQuestion {
  readonly vmId: string;
  readonly operation: Operation;
  /** Already defaulted (which may be to `IMAGE_USER`) and validated; `null` for operations on the machine itself. */
  readonly linuxUser: string | null;
}

export interface TokenRow {
  readonly id: string;
  readonly name: string | null;
  readonly createdAt: number;
  readonly expiresAt: number | null;
}

export interface GrantRow extends GrantHold {
  readonly id: string;
  readonly identityId: string;
  readonly vmId: string;
  readonly allowedUsers: readonly string[] | null;
  readonly grantedAt: number;
  readonly grantedBy: string;
}

/** A VM to grant, and its epochs now. */
export interface GrantedVm extends VmEpochs {
  readonly id: string;
}

export interface IdentityRow {
  readonly id: string;
  readonly managed: boolean;
  readonly createdAt: number;
}

/** Object name: the account id. */
export interface AccountApi extends CreationsApi {
  /** Makes the account and its first API key; the key is shown once. */
  create(name: string): Promise<Result<{ accountId: string; keyId: string; apiKey: string }>>;
  checkKey(secretHash: string): Promise<Result<AccountStanding>>;
  /** Whether a key, named by its id, still stands: for sessions that began with it. `credential-invalid` when it does not. */
  recheck(keyId: string): Promise<Result<AccountStanding>>;
  createKey(name: string | null): Promise<Result<{ keyId: string; apiKey: string }>>;
  /** Narrowing: raises the account's epoch and delivers the floor before it answers. */
  revokeKey(keyId: string): Promise<Result<null>>;
  listKeys(page: Page): Promise<Result<{ keys: readonly TokenRow[]; total: number }>>;
  /** The account's epochs now, for tickets of work that the account's own objects do on its behalf, suspended or not. */
  epoch(): Promise<Result<{ epoch: number; tenancyEpoch: number; readAt: number }>>;
  /** That the account may use what it owns; `account-suspended` when it may not. */
  tenancy(): Promise<Result<Tenancy>>;
  /** Narrowing: its keys and its identities' tokens are refused until it is resumed. Idempotent. */
  suspend(): Promise<Result<null>>;
  resume(): Promise<Result<null>>;
  /** Regions that could not be told yet of what was taken away here. */
  untold(): Promise<readonly string[]>;
  /**
   * Takes a place under the account's VM quota, and the slug that the VM wants, or neither; called by the VM's own object.
   * Idempotent. A slug that another VM holds is a `conflict`.
   */
  addVm(vm: VmRecord, slug: SlugWish | null): Promise<Result<null>>;
  /** Notes a VM's newest record in the index; older `updatedAt` than known is ignored. */
  noteVm(vm: VmRecord): Promise<void>;
  /** `total` counts what the filter admits; `counts` are of the whole account. */
  listVms(query: Page & VmFilter): Promise<Result<{ vms: readonly ListedVm[]; total: number; counts: VmCounts }>>;
  /** The VM that holds a slug, or `vm-not-found`. */
  findSlug(slug: string): Promise<Result<string>>;
  slugOf(vmId: string): Promise<Result<string | null>>;
  /** Gives a VM of the account a slug, or takes it away (`null`). A slug that another VM holds is a `conflict`. */
  setSlug(vmId: string, wish: SlugWish | null): Promise<Result<null>>;
  /** Enters a snapshot, or its newer record, within the account's quota; a slug that another has is a `conflict`. Idempotent. */
  putSnapshot(snapshot: SnapshotRecord): Promise<Result<null>>;
  listSnapshots(
    query: Page & SnapshotFilter,
  ): Promise<Result<{ snapshots: readonly SnapshotRecord[]; total: number; counts: SnapshotCounts }>>;
  /** The id of the snapshot that has a slug, or `snapshot-not-found`. */
  findSnapshotSlug(slug: string): Promise<Result<string>>;
  /** Called by the identity's own object, so that the index cannot miss one. Idempotent. */
  addIdentity(identity: IdentityRow): Promise<Result<null>>;
  removeIdentity(identityId: string): Promise<void>;
  listIdentities(page: Page & { includeManaged: boolean }): Promise<Result<{ identities: readonly IdentityRow[]; total: number }>>;
}

/** Object name: the identity id. Every owner's call names the calling account; another account's identity does not exist. */
export interface IdentityApi {
  /** Makes the identity and enters it in its account's index, within the account's quota. */
  create(accountId: string, managed: boolean): Promise<Result<IdentityRow>>;
  describe(accountId: string): Promise<Result<IdentityRow>>;
  /** Narrowing. Drops tokens and grants, and leaves the account's index. */
  remove(accountId: string): Promise<Result<null>>;
  createToken(
    accountId: string,
    options: { name: string | null; expiresAt: number | null },
  ): Promise<Result<{ id: string; token: string }>>;
  listTokens(accountId: string, page: Page): Promise<Result<{ tokens: readonly TokenRow[]; total: number }>>;
  /** Narrowing. */
  revokeToken(accountId: string, tokenId: string): Promise<Result<null>>;
  /** The caller has made sure that the VM is the account's, and read its epoch. A grant of an earlier epoch is replaced. */
  grant(accountId: string, vm: GrantedVm, allowedUsers: readonly string[] | null, grantedBy: string): Promise<Result<GrantRow>>;
  listGrants(accountId: string, page: Page): Promise<Result<{ grants: readonly GrantRow[]; total: number }>>;
  getGrant(accountId: string, vmId: string): Promise<Result<GrantRow>>;
  /** Narrowing unless every user admitted before is still admitted. */
  updateGrant(accountId: string, vm: GrantedVm, allowedUsers: readonly string[] | null): Promise<Result<GrantRow>>;
  /** Narrowing. */
  revokeGrant(accountId: string, vmId: string): Promise<Result<null>>;
  /** Regions that could not be told yet of what was taken away here. */
  untold(): Promise<readonly string[]>;
  /** Who a token is; refuses unknown, revoked and expired ones alike with `credential-invalid`. */
  checkToken(secretHash: string): Promise<Result<IdentityStanding>>;
  /** One read answers whether the token may do this; `vm-not-found` when the VM is not granted, whether or not it exists. */
  verdict(secretHash: string, question: VerdictQuestion): Promise<Result<Verdict>>;
  /** The same answer for a token named by its id: whether a session that began with it may go on. */
  recheck(tokenId: string, question: VerdictQuestion): Promise<Result<Verdict>>;
}

export type SnapshotState = "building" | "ready" | "failed" | "deleted";

/** A copy of a VM's disk, kept on the VM's host, from which new VMs can begin. */
export interface SnapshotRecord {
  readonly id: string;
  readonly accountId: string;
  readonly sourceVmId: string;
  /** Label for people: `name` of 0.1, `displayName` of 0.2. */
  readonly name: string | null;
  /** One of the account's own; at most one of its snapshots has it. */
  readonly slug: string | null;
  readonly state: SnapshotState;
  readonly failureReason: string | null;
  /** Sizes of the VM when it was taken. */
  readonly resources: MachineResources;
  readonly lastUsedAt: number | null;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export interface SnapshotWish {
  readonly sourceVmId: string;
  readonly name: string | null;
  readonly slug: string | null;
}

/** What may be changed about a snapshot; what is absent stays. */
export type SnapshotChange = Partial<Pick<SnapshotRecord, "name" | "slug">>;

/** One host of a region: where a snapshot is kept, or a machine is. */
export interface HostPlace {
  readonly region: string;
  readonly hostId: string;
}

export interface SnapshotFilter {
  readonly states: readonly SnapshotState[];
  readonly sourceVmId: string | null;
}

export type SnapshotCounts = Readonly<Record<SnapshotState, number>>;

/** Sizes in MiB; null: the host does not say. */
export interface HostRow {
  readonly id: string;
  readonly url: string;
  readonly driver: string;
  readonly version: string;
  readonly capacity: number;
  /** VMs that are placed on it, sleeping ones included. */
  readonly vmCount: number;
  /** VMs that run on it. */
  readonly running: number | null;
  /** Its feed is open and it sends heartbeats. */
  readonly connected: boolean;
  /** It was not heard for `HOST_SILENCE_MS`: nothing is sent to it. */
  readonly down: boolean;
  /** It takes no new VMs and wakes none. */
  readonly draining: boolean;
  readonly cpus: number | null;
  readonly memory: number | null;
  readonly freeMemory: number | null;
  readonly freeDisk: number | null;
  readonly lastSeenAt: number;
}

/** Where a VM may be placed; what is null does not matter. */
export interface PlaceWish {
  readonly onHost: string | null;
  readonly accountId: string | null;
  readonly driver: string | null;
  /** VMs of the account with the same group are on hosts of their own. */
  readonly spreadGroup: string | null;
  readonly resources: MachineResources;
}

/** A live SSH connection, as its forwarder told of it. */
export interface SshSessionRow {
  readonly id: string;
  readonly subject: Subject;
  readonly vmId: string;
  readonly linuxUser: string;
  readonly credentialId: string;
  /** Where the client came from. */
  readonly address: string;
  readonly since: number;
}

/** Object name: `regionObjectName(region)`. Its `fetch` takes the feed's WebSocket upgrade, already authenticated. */
export interface RegionApi extends RegionServicesApi {
  /**
   * Chooses a connected host that has room for the VM and takes new ones (`placement.ts`), or the one named (`onHost`) if that is so
   * of it, and counts the VM there until `release`. Idempotent.
   */
  place(vmId: string, wish?: Partial<PlaceWish>): Promise<Result<{ hostId: string; hostUrl: string }>>;
  release(vmId: string): Promise<void>;
  /** The URL of a host that is worth a try: `host-down` when it was silent for too long, `host-unavailable` when there is none. */
  hostUrl(hostId: string): Promise<Result<string>>;
  listHosts(): Promise<Result<readonly HostRow[]>>;
  /** Whether a host takes new VMs and wakes those that sleep; what runs there stays. `route-not-found` for an unknown one. */
  drainHost(hostId: string, draining: boolean): Promise<Result<null>>;
  /** Keeps the floors for late joiners and pushes them to every connected verifier. Idempotent. */
  deliverFloors(floors: readonly Floor[]): Promise<void>;
  /** Tells every connected verifier, and those to come, that ticket keys were withdrawn. Idempotent. */
  voidKeys(kids: readonly string[]): Promise<void>;
  /** SSH connections of an account at the region's forwarders, oldest first, at most `MAX_PAGE_SIZE`. */
  listSshSessions(accountId: string): Promise<Result<readonly SshSessionRow[]>>;
  /** Tells the forwarder that holds an account's connection to end it; `session-not-found` when none does. */
  closeSshSession(accountId: string, id: string): Promise<Result<null>>;
}

/** Object name: `ticket-keys`; one for the deployment. */
export interface SigningKeysApi {
  /** The private key to sign with now, as a JWK, and until when it may be kept in memory. */
  signer(): Promise<{ kid: string; privateJwk: JsonWebKey; keepUntil: number }>;
  /** Every key that verifiers must know: published, signing and not yet retired. */
  jwks(): Promise<{ keys: readonly JsonWebKey[] }>;
  /** Publishes a new key; it signs once every verifier has had time to fetch it. */
  rotate(): Promise<{ kid: string; signsFrom: number }>;
  /**
   * For a key that got into wrong hands: every key is withdrawn at once and with it every ticket, and a new one signs. Regions
   * that could not be told within the time of a delivery are told by alarm.
   */
  voidAll(): Promise<{ kid: string; voided: readonly string[]; untold: readonly string[] }>;
}
