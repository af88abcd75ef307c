import type { Result } from "../protocol/failures.ts";
import type { MachineState } from "../protocol/feed.ts";
import type { Floor } from "../protocol/floors.ts";
import type { GuestGroup, GuestUser } from "../protocol/host-api.ts";
import type { Operation } from "../protocol/operations.ts";
import type { Subject } from "../protocol/subjects.ts";

/**
 * The typed RPC between the Worker and the Durable Objects: plain data and discriminated unions only, since class
 * instances do not survive RPC. Times are milliseconds since 1970 UTC unless a name says otherwise.
 */

/**
 * Headers that the Worker sets on the upgrade request it passes to `Region.fetch`, once the service key is checked; it
 * overwrites whatever the caller sent under these names.
 */
export const FEED_REGION_HEADER = "postern-feed-region";
export const FEED_KEY_HEADER = "postern-feed-key";

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
}

export interface VerdictQuestion {
  readonly vmId: string;
  readonly operation: Operation;
  /** Already defaulted and validated; `null` for operations on the machine itself. */
  readonly linuxUser: string | null;
}

export interface TokenRow {
  readonly id: string;
  readonly name: string | null;
  readonly createdAt: number;
  readonly expiresAt: number | null;
}

export interface GrantRow {
  readonly id: string;
  readonly identityId: string;
  readonly vmId: string;
  readonly allowedUsers: readonly string[] | null;
  readonly grantedAt: number;
  readonly grantedBy: string;
}

export interface IdentityRow {
  readonly id: string;
  readonly managed: boolean;
  readonly createdAt: number;
}

/** States of a VM as the API can name them. */
export type VmState = "starting" | "running" | "suspending" | "suspended" | "stopped" | "deleted" | "lost";

export interface VmRecord {
  readonly id: string;
  readonly accountId: string;
  readonly name: string | null;
  readonly state: VmState;
  readonly region: string;
  readonly hostId: string;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export interface VmSpec {
  readonly name: string | null;
  readonly users: readonly GuestUser[];
  readonly groups: readonly GuestGroup[];
}

/** Where a VM is, for whoever forwards to it. */
export interface Placement {
  readonly vmId: string;
  readonly accountId: string;
  readonly region: string;
  readonly hostId: string;
  readonly hostUrl: string;
}

/** Counts of an account's VMs by state, for list answers. */
export type VmCounts = Readonly<Record<VmState, number>>;

/** Object name: the account id. */
export interface AccountApi {
  /** Makes the account and its first API key; the key is shown once. */
  create(name: string): Promise<Result<{ accountId: string; keyId: string; apiKey: string }>>;
  checkKey(secretHash: string): Promise<Result<AccountStanding>>;
  /** Whether a key, named by its id, still stands: for sessions that began with it. `credential-invalid` when it does not. */
  recheck(keyId: string): Promise<Result<AccountStanding>>;
  createKey(name: string | null): Promise<Result<{ keyId: string; apiKey: string }>>;
  /** Narrowing: raises the account's epoch and delivers the floor before it answers. */
  revokeKey(keyId: string): Promise<Result<null>>;
  listKeys(page: Page): Promise<Result<{ keys: readonly TokenRow[]; total: number }>>;
  /** The account's epoch now, for tickets of work that the account's own objects do on its behalf. */
  epoch(): Promise<Result<{ epoch: number; readAt: number }>>;
  /** Takes a place under the account's VM quota; called by the VM's own object. Idempotent. */
  addVm(vm: VmRecord): Promise<Result<null>>;
  /** Notes a VM's newest record in the index; older `updatedAt` than known is ignored. */
  noteVm(vm: VmRecord): Promise<void>;
  listVms(
    page: Page & { includeDeleted: boolean; state?: VmState },
  ): Promise<Result<{ vms: readonly VmRecord[]; total: number; counts: VmCounts }>>;
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
  /** The caller has made sure that the VM is the account's. */
  grant(accountId: string, vmId: string, allowedUsers: readonly string[] | null, grantedBy: string): Promise<Result<GrantRow>>;
  listGrants(accountId: string, page: Page): Promise<Result<{ grants: readonly GrantRow[]; total: number }>>;
  getGrant(accountId: string, vmId: string): Promise<Result<GrantRow>>;
  /** Narrowing unless every user admitted before is still admitted. */
  updateGrant(accountId: string, vmId: string, allowedUsers: readonly string[] | null): Promise<Result<GrantRow>>;
  /** Narrowing. */
  revokeGrant(accountId: string, vmId: string): Promise<Result<null>>;
  /** Who a token is; refuses unknown, revoked and expired ones alike with `credential-invalid`. */
  checkToken(secretHash: string): Promise<Result<IdentityStanding>>;
  /** One read answers whether the token may do this; `vm-not-found` when the VM is not granted, whether or not it exists. */
  verdict(secretHash: string, question: VerdictQuestion): Promise<Result<Verdict>>;
  /** The same answer for a token named by its id: whether a session that began with it may go on. */
  recheck(tokenId: string, question: VerdictQuestion): Promise<Result<Verdict>>;
}

/** Object name: the VM id. `accountId` is the caller's; another account's VM does not exist, nor does a deleted one. */
export interface VmApi {
  /** Places and creates the machine, makes its users, and answers when it runs. Undone by alarm if it dies half-way. */
  create(accountId: string, vmId: string, spec: VmSpec): Promise<Result<VmRecord>>;
  /** `accountId` null: the caller already holds a verdict on this VM. */
  read(accountId: string | null): Promise<Result<VmRecord>>;
  placement(): Promise<Result<Placement>>;
  start(accountId: string): Promise<Result<VmRecord>>;
  stop(accountId: string): Promise<Result<VmRecord>>;
  suspend(accountId: string): Promise<Result<VmRecord>>;
  remove(accountId: string): Promise<Result<VmRecord>>;
  /** The host says the machine changed its state. */
  observe(hostId: string, state: MachineState, at: number): Promise<void>;
}

/** What a service key resolves to. */
export interface ServiceStanding {
  readonly region: string;
  readonly keyId: string;
}

export interface HostRow {
  readonly id: string;
  readonly url: string;
  readonly driver: string;
  readonly version: string;
  readonly capacity: number;
  readonly vmCount: number;
  readonly connected: boolean;
  readonly lastSeenAt: number;
}

/** Object name: `regionObjectName(region)`. Its `fetch` takes the feed's WebSocket upgrade, already authenticated. */
export interface RegionApi {
  createServiceKey(region: string, name: string | null): Promise<Result<{ keyId: string; serviceKey: string }>>;
  revokeServiceKey(keyId: string): Promise<Result<null>>;
  checkServiceKey(secretHash: string): Promise<Result<ServiceStanding>>;
  /** Chooses the connected host with the fewest VMs that has room, and counts the VM there until `release`. Idempotent. */
  place(vmId: string): Promise<Result<{ hostId: string; hostUrl: string }>>;
  release(vmId: string): Promise<void>;
  /** The URL of a connected host, or `host-unavailable`. */
  hostUrl(hostId: string): Promise<Result<string>>;
  listHosts(): Promise<Result<readonly HostRow[]>>;
  /** Keeps the floors for late joiners and pushes them to every connected verifier. Idempotent. */
  deliverFloors(floors: readonly Floor[]): Promise<void>;
}

/** Object name: `ticket-keys`; one for the deployment. */
export interface SigningKeysApi {
  /** The private key to sign with now, as a JWK, and until when it may be kept in memory. */
  signer(): Promise<{ kid: string; privateJwk: JsonWebKey; keepUntil: number }>;
  /** Every key that verifiers must know: published, signing and not yet retired. */
  jwks(): Promise<{ keys: readonly JsonWebKey[] }>;
  /** Publishes a new key; it signs once every verifier has had time to fetch it. */
  rotate(): Promise<{ kid: string; signsFrom: number }>;
}
