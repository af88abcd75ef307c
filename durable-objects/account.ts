import { failure, type Result, success } from "../protocol/failures.ts";
import { newRowId } from "../protocol/ids.ts";
import { CREDENTIAL_INVALID_MESSAGE, SNAPSHOT_NOT_FOUND_MESSAGE, VM_NOT_FOUND_MESSAGE } from "../protocol/messages.ts";
import { accountSubject, tenantSubject } from "../protocol/subjects.ts";
import { mintCredential } from "../protocol/tokens.ts";
import { ACCOUNT_SCHEMA } from "./account-schema.ts";
import type {
  AccountApi,
  AccountStanding,
  IdentityRow,
  Page,
  SnapshotCounts,
  SnapshotFilter,
  SnapshotRecord,
  TokenRow,
} from "./contract.ts";
import { Counts } from "./counts.ts";
import { type Claimed, type CreationClaim, Creations } from "./creations.ts";
import type { Env } from "./env.ts";
import { Outbox } from "./outbox.ts";
import { Slugs } from "./slugs.ts";
import { SnapshotIndex } from "./snapshot-index.ts";
import { StoredObject } from "./stored-object.ts";
import type { ListedVm, SlugWish, Tenancy, VmCounts, VmRecord } from "./vm-contract.ts";
import { VmIndex, type VmListQuery } from "./vm-index.ts";

type AccountRow = { id: string; epoch: number; tenancy_epoch: number; suspended_at: number | null };
type NewKey = { keyId: string; apiKey: string };

/** An account: its API keys' hashes, its epoch, and the index of its VMs and identities. */
export class Account extends StoredObject implements AccountApi {
  readonly #counts: Counts;
  readonly #vms: VmIndex;
  readonly #slugs: Slugs;
  readonly #snapshots: SnapshotIndex;
  readonly #creations: Creations;
  readonly #outbox: Outbox;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env, ACCOUNT_SCHEMA);
    this.#counts = new Counts(this.sql);
    this.#vms = new VmIndex(this.sql);
    this.#slugs = new Slugs(this.sql);
    this.#snapshots = new SnapshotIndex(this.sql);
    this.#creations = new Creations(this.sql);
    this.#outbox = new Outbox(ctx.storage, env, this.settings, () => this.clock());
  }

  async create(name: string): Promise<Result<{ accountId: string; keyId: string; apiKey: string }>> {
    const accountId = this.ctx.id.name;
    if (accountId === undefined) return failure("internal", "An account object must be addressed by name.");
    const key = await this.#mintKey(accountId);
    if (this.#account() !== null) return failure("conflict", "This account exists already.");
    this.schema.prepare();
    this.ctx.storage.transactionSync(() => {
      this.sql.exec("INSERT INTO account (id, name, created_at, epoch) VALUES (?, ?, ?, 1)", accountId, name, this.clock());
      this.#insertKey(key, null);
    });
    return success({ accountId, keyId: key.keyId, apiKey: key.apiKey });
  }

  async checkKey(secretHash: string): Promise<Result<AccountStanding>> {
    const account = this.#account();
    if (account === null) return failure("credential-invalid", CREDENTIAL_INVALID_MESSAGE);
    // The hash of a secret of 120 bits: how long a look-up takes says nothing that helps to guess the secret.
    const [key] = this.sql.exec<{ id: string }>("SELECT id FROM keys WHERE hash = ? AND revoked_at IS NULL", secretHash).toArray();
    if (key === undefined) return failure("credential-invalid", CREDENTIAL_INVALID_MESSAGE);
    if (account.suspended_at !== null) return suspended();
    return success({ accountId: account.id, keyId: key.id, epoch: account.epoch, readAt: this.clock() });
  }

  async recheck(keyId: string): Promise<Result<AccountStanding>> {
    const account = this.#account();
    if (account === null || !this.#isLiveKey(keyId)) return failure("credential-invalid", CREDENTIAL_INVALID_MESSAGE);
    if (account.suspended_at !== null) return suspended();
    return success({ accountId: account.id, keyId, epoch: account.epoch, readAt: this.clock() });
  }

  async createKey(name: string | null): Promise<Result<NewKey>> {
    const account = this.#account();
    if (account === null) return noAccount();
    const key = await this.#mintKey(account.id);
    if (this.#counts.get("keys") >= this.settings.MAX_KEYS_PER_ACCOUNT) {
      return failure("quota-exceeded", `This account has ${this.settings.MAX_KEYS_PER_ACCOUNT} API keys, the most it may have.`);
    }
    this.ctx.storage.transactionSync(() => this.#insertKey(key, name));
    return success({ keyId: key.keyId, apiKey: key.apiKey });
  }

  async revokeKey(keyId: string): Promise<Result<null>> {
    const account = this.#account();
    if (account === null || !this.#isLiveKey(keyId)) return failure("token-not-found", "This API key does not exist.");
    const now = this.clock();
    this.ctx.storage.transactionSync(() => {
      this.sql.exec("UPDATE keys SET revoked_at = ? WHERE id = ?", now, keyId);
      this.sql.exec("DELETE FROM keys WHERE revoked_at < ?", now - this.settings.CREDENTIAL_KEEP_MS);
      this.#counts.add("keys", -1);
      this.sql.exec("UPDATE account SET epoch = epoch + 1");
      this.#outbox.append({ sub: accountSubject(account.id), epoch: account.epoch + 1, at: now });
    });
    await this.#deliver();
    return success(null);
  }

  async listKeys(page: Page): Promise<Result<{ keys: readonly TokenRow[]; total: number }>> {
    if (this.#account() === null) return noAccount();
    const keys = this.sql
      .exec<{ id: string; name: string | null; created_at: number }>(
        "SELECT id, name, created_at FROM keys WHERE revoked_at IS NULL ORDER BY created_at, id LIMIT ? OFFSET ?",
        ...this.bounds(page),
      )
      .toArray()
      .map((row) => ({ id: row.id, name: row.name, createdAt: row.created_at, expiresAt: null }));
    return success({ keys, total: this.#counts.get("keys") });
  }

  async epoch(): Promise<Result<{ epoch: number; tenancyEpoch: number; readAt: number }>> {
    const account = this.#account();
    if (account === null) return noAccount();
    return success({ epoch: account.epoch, tenancyEpoch: account.tenancy_epoch, readAt: this.clock() });
  }

  async tenancy(): Promise<Result<Tenancy>> {
    const account = this.#account();
    if (account === null) return noAccount();
    if (account.suspended_at !== null) return suspended();
    return success({ accountId: account.id, epoch: account.tenancy_epoch, readAt: this.clock() });
  }

  async suspend(): Promise<Result<null>> {
    const account = this.#account();
    if (account === null) return noAccount();
    if (account.suspended_at !== null) return success(null);
    const now = this.clock();
    this.ctx.storage.transactionSync(() => {
      this.sql.exec("UPDATE account SET suspended_at = ?, tenancy_epoch = tenancy_epoch + 1", now);
      this.#outbox.append({ sub: tenantSubject(account.id), epoch: account.tenancy_epoch + 1, at: now });
    });
    await this.#deliver();
    return success(null);
  }

  async untold(): Promise<readonly string[]> {
    return this.schema.exists ? this.#outbox.untold() : [];
  }

  async resume(): Promise<Result<null>> {
    if (this.#account() === null) return noAccount();
    this.sql.exec("UPDATE account SET suspended_at = NULL");
    return success(null);
  }

  async addVm(vm: VmRecord, slug: SlugWish | null): Promise<Result<null>> {
    const account = this.#account();
    if (account === null || account.id !== vm.accountId) return noAccount();
    if (!this.#vms.has(vm.id)) {
      const { deleted: _, ...live } = this.#vms.counts();
      const used = Object.values(live).reduce((sum, count) => sum + count, 0);
      const most = this.settings.MAX_VMS_PER_ACCOUNT;
      if (used >= most) return failure("vm-quota-exceeded", `This account has ${used} VMs; it may have ${most}.`);
    }
    return this.ctx.storage.transactionSync(() => {
      const taken = slug === null ? success(null) : this.#slugs.take(vm.id, slug);
      if (taken.ok) this.#vms.put(vm);
      return taken;
    });
  }

  async noteVm(vm: VmRecord): Promise<void> {
    const account = this.#account();
    if (account === null || account.id !== vm.accountId) return;
    this.ctx.storage.transactionSync(() => {
      this.#vms.put(vm);
      if (vm.state === "deleted") this.#slugs.release(vm.id);
    });
  }

  async listVms(query: VmListQuery): Promise<Result<{ vms: readonly ListedVm[]; total: number; counts: VmCounts }>> {
    const account = this.#account();
    if (account === null) return noAccount();
    return success({ ...this.#vms.list(account.id, query, this.bounds(query)), counts: this.#vms.counts() });
  }

  async findSlug(slug: string): Promise<Result<string>> {
    const holder = this.#account() === null ? null : this.#slugs.holder(slug);
    return holder === null ? noVm() : success(holder);
  }

  async slugOf(vmId: string): Promise<Result<string | null>> {
    return this.#account() === null ? noAccount() : success(this.#slugs.of(vmId));
  }

  async setSlug(vmId: string, wish: SlugWish | null): Promise<Result<null>> {
    if (this.#account() === null) return noAccount();
    if (!this.#vms.isLive(vmId)) return noVm();
    if (wish !== null) return this.ctx.storage.transactionSync(() => this.#slugs.take(vmId, wish));
    this.#slugs.release(vmId);
    return success(null);
  }

  async putSnapshot(snapshot: SnapshotRecord): Promise<Result<null>> {
    const account = this.#account();
    if (account === null || account.id !== snapshot.accountId) return noAccount();
    const most = this.settings.MAX_SNAPSHOTS_PER_ACCOUNT;
    return this.ctx.storage.transactionSync(() => this.#snapshots.put(snapshot, most));
  }

  async listSnapshots(
    query: Page & SnapshotFilter,
  ): Promise<Result<{ snapshots: readonly SnapshotRecord[]; total: number; counts: SnapshotCounts }>> {
    if (this.#account() === null) return noAccount();
    return success({ ...this.#snapshots.list(query, this.bounds(query)), counts: this.#snapshots.counts() });
  }

  async findSnapshotSlug(slug: string): Promise<Result<string>> {
    const id = this.#account() === null ? null : this.#snapshots.withSlug(slug);
    return id === null ? failure("snapshot-not-found", SNAPSHOT_NOT_FOUND_MESSAGE) : success(id);
  }

  async addIdentity(identity: IdentityRow): Promise<Result<null>> {
    if (this.#account() === null) return noAccount();
    if (this.sql.exec("SELECT 1 FROM identities WHERE id = ?", identity.id).toArray().length > 0) return success(null);
    const used = this.#counts.get("identities") + this.#counts.get("identities:managed");
    const most = this.settings.MAX_IDENTITIES_PER_ACCOUNT;
    if (used >= most) return failure("quota-exceeded", `This account has ${used} identities; it may have ${most}.`);
    this.ctx.storage.transactionSync(() => {
      this.sql.exec(
        "INSERT INTO identities (id, managed, created_at) VALUES (?, ?, ?)",
        identity.id,
        identity.managed ? 1 : 0,
        identity.createdAt,
      );
      this.#counts.add(identity.managed ? "identities:managed" : "identities", 1);
    });
    return success(null);
  }

  async removeIdentity(identityId: string): Promise<void> {
    if (this.#account() === null) return;
    const [row] = this.sql.exec<{ managed: number }>("SELECT managed FROM identities WHERE id = ?", identityId).toArray();
    if (row === undefined) return;
    this.ctx.storage.transactionSync(() => {
      this.sql.exec("DELETE FROM identities WHERE id = ?", identityId);
      this.#counts.add(row.managed === 1 ? "identities:managed" : "identities", -1);
    });
  }

  async listIdentities(
    page: Page & { includeManaged: boolean },
  ): Promise<Result<{ identities: readonly IdentityRow[]; total: number }>> {
    if (this.#account() === null) return noAccount();
    const where = page.includeManaged ? "" : "WHERE managed = 0";
    const identities = this.sql
      .exec<{ id: string; managed: number; created_at: number }>(
        `SELECT id, managed, created_at FROM identities ${where} ORDER BY created_at, id LIMIT ? OFFSET ?`,
        ...this.bounds(page),
      )
      .toArray()
      .map((row) => ({ id: row.id, managed: row.managed === 1, createdAt: row.created_at }));
    const managed = page.includeManaged ? this.#counts.get("identities:managed") : 0;
    return success({ identities, total: this.#counts.get("identities") + managed });
  }

  async claimCreation(claim: CreationClaim): Promise<Result<Claimed>> {
    if (this.#account() === null) return noAccount();
    const now = this.clock();
    const forgetBefore = now - this.settings.IDEMPOTENCY_KEEP_MS;
    return this.ctx.storage.transactionSync(() => this.#creations.claim(claim, now, forgetBefore));
  }

  async settleCreation(keyHash: string, id: string, isMade: boolean): Promise<Result<null>> {
    if (this.#account() === null) return noAccount();
    this.#creations.settle(keyHash, id, isMade);
    return success(null);
  }

  override async alarm(): Promise<void> {
    if (this.#account() !== null) await this.#deliver();
  }

  async #deliver(): Promise<void> {
    await this.#outbox.deliver();
    const wait = this.#outbox.retryInMs();
    if (wait === null) await this.ctx.storage.deleteAlarm();
    else await this.ctx.storage.setAlarm(this.clock() + wait);
  }

  #account(): AccountRow | null {
    if (!this.schema.exists) return null;
    return this.sql.exec<AccountRow>("SELECT id, epoch, tenancy_epoch, suspended_at FROM account").toArray()[0] ?? null;
  }

  #isLiveKey(keyId: string): boolean {
    return this.sql.exec("SELECT 1 FROM keys WHERE id = ? AND revoked_at IS NULL", keyId).toArray().length > 0;
  }

  async #mintKey(accountId: string): Promise<NewKey & { hash: string }> {
    const { text, secretHash } = await mintCredential("api-key", accountId, await this.macKeys(), this.randomBytes);
    return { keyId: newRowId(this.randomBytes), apiKey: text, hash: secretHash };
  }

  #insertKey(key: { keyId: string; hash: string }, name: string | null): void {
    this.sql.exec("INSERT INTO keys (id, hash, name, created_at) VALUES (?, ?, ?, ?)", key.keyId, key.hash, name, this.clock());
    this.#counts.add("keys", 1);
  }
}

function noVm() {
  return failure("vm-not-found", VM_NOT_FOUND_MESSAGE);
}

function suspended() {
  return failure("account-suspended", "This account is suspended. Ask whoever runs this service.");
}

function noAccount() {
  return failure("credential-invalid", CREDENTIAL_INVALID_MESSAGE);
}
