import { failure, type Result, success } from "../protocol/failures.ts";
import { newRowId } from "../protocol/ids.ts";
import { isLinuxUser } from "../protocol/linux-user.ts";
import { CREDENTIAL_INVALID_MESSAGE, IDENTITY_NOT_FOUND_MESSAGE } from "../protocol/messages.ts";
import { identitySubject } from "../protocol/subjects.ts";
import { mintCredential } from "../protocol/tokens.ts";
import type {
  GrantedVm,
  GrantRow,
  IdentityApi,
  IdentityRow,
  IdentityStanding,
  Page,
  TokenRow,
  Verdict,
  VerdictQuestion,
} from "./contract.ts";
import { decide } from "./decide.ts";
import type { Env } from "./env.ts";
import { Grants, isNarrower, isOver } from "./grants.ts";
import { IDENTITY_SCHEMA } from "./identity-schema.ts";
import { Outbox } from "./outbox.ts";
import { StoredObject } from "./stored-object.ts";
import { Tokens } from "./tokens.ts";

type Row = {
  id: string;
  account_id: string;
  managed: number;
  created_at: number;
  epoch: number;
  removed_at: number | null;
  listed: number;
  /** Until when expired tokens have raised the epoch. */
  swept_at: number;
};

type FindToken = (now: number) => TokenRow | null;

/** An identity: its tokens' hashes, its grants and its epoch. One read of it answers whether a token may do something. */
export class Identity extends StoredObject implements IdentityApi {
  readonly #tokens: Tokens;
  readonly #grants: Grants;
  readonly #outbox: Outbox;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env, IDENTITY_SCHEMA);
    this.#tokens = new Tokens(this.sql);
    this.#grants = new Grants(this.sql);
    this.#outbox = new Outbox(ctx.storage, env, this.settings, () => this.clock());
  }

  async create(accountId: string, managed: boolean): Promise<Result<IdentityRow>> {
    const id = this.ctx.id.name;
    if (id === undefined) return failure("internal", "An identity object must be addressed by name.");
    if (this.#row() !== null) return failure("conflict", "This identity exists already.");
    const row: IdentityRow = { id, managed, createdAt: this.clock() };
    this.schema.prepare();
    this.sql.exec(
      "INSERT INTO identity (id, account_id, managed, created_at, epoch, listed) VALUES (?, ?, ?, ?, 1, 1)",
      id,
      accountId,
      managed ? 1 : 0,
      row.createdAt,
    );
    // Own row first: a crash in between leaves an identity that nobody was told of, never a listed one that is not there.
    const listed = await this.#account(accountId).addIdentity(row);
    if (listed.ok) return success(row);
    this.sql.exec("UPDATE identity SET removed_at = ?, listed = 0", this.clock());
    return listed;
  }

  async describe(accountId: string): Promise<Result<IdentityRow>> {
    const row = this.#owned(accountId);
    if (row === null) return notFound();
    return success({ id: row.id, managed: row.managed === 1, createdAt: row.created_at });
  }

  async remove(accountId: string): Promise<Result<null>> {
    const row = this.#owned(accountId);
    if (row === null) return notFound();
    if (row.managed === 1) return failure("identity-managed", "A managed identity cannot be deleted.");
    await this.#narrow(row, () => {
      this.sql.exec("UPDATE identity SET removed_at = ?", this.clock());
      this.#tokens.dropAll();
      this.sql.exec("DELETE FROM grants");
    });
    return success(null);
  }

  async createToken(
    accountId: string,
    options: { name: string | null; expiresAt: number | null },
  ): Promise<Result<{ id: string; token: string }>> {
    const owned = this.#owned(accountId);
    if (owned === null) return notFound();
    const minted = await mintCredential("access-token", owned.id, await this.macKeys(), this.randomBytes);
    const now = this.clock();
    // Minting awaits; the identity may have been removed meanwhile.
    if (this.#owned(accountId) === null) return notFound();
    if (options.expiresAt !== null && options.expiresAt <= now) {
      return failure("bad-request", "The token would have expired already.");
    }
    const most = this.settings.MAX_TOKENS_PER_IDENTITY;
    if (this.#tokens.count(now) >= most) {
      return failure("quota-exceeded", `This identity has ${most} access tokens, the most it may have.`);
    }
    const id = newRowId(this.randomBytes);
    this.ctx.storage.transactionSync(() => {
      this.#tokens.prune(now - this.settings.CREDENTIAL_KEEP_MS);
      this.#tokens.insert({ id, name: options.name, createdAt: now, expiresAt: options.expiresAt }, minted.secretHash);
    });
    if (options.expiresAt !== null) await this.#rearm();
    return success({ id, token: minted.text });
  }

  async listTokens(accountId: string, page: Page): Promise<Result<{ tokens: readonly TokenRow[]; total: number }>> {
    if (this.#owned(accountId) === null) return notFound();
    const now = this.clock();
    return success({ tokens: this.#tokens.list(now, this.bounds(page)), total: this.#tokens.count(now) });
  }

  async revokeToken(accountId: string, tokenId: string): Promise<Result<null>> {
    const row = this.#owned(accountId);
    if (row === null) return notFound();
    if (this.#tokens.withId(tokenId, this.clock()) === null) return failure("token-not-found", "This access token does not exist.");
    await this.#narrow(row, () => this.#tokens.revoke(tokenId, this.clock()));
    return success(null);
  }

  async grant(
    accountId: string,
    vm: GrantedVm,
    allowedUsers: readonly string[] | null,
    grantedBy: string,
  ): Promise<Result<GrantRow>> {
    const row = this.#owned(accountId);
    if (row === null) return notFound();
    const refusal = this.#refuseUsers(allowedUsers);
    if (refusal !== null) return failure("bad-request", refusal);
    const before = this.#grants.get(row.id, vm.id);
    if (before !== null && !isOver(before, vm)) {
      return failure("grant-exists", "This identity already has a grant on this VM. Update that grant instead.");
    }
    const most = this.settings.MAX_GRANTS_PER_IDENTITY;
    if (before === null && this.#grants.count() >= most) {
      return failure("quota-exceeded", `This identity has ${most} grants, the most it may have.`);
    }
    const id = newRowId(this.randomBytes);
    const grant = {
      id,
      identityId: row.id,
      vmId: vm.id,
      allowedUsers,
      grantedAt: this.clock(),
      grantedBy,
      vmEpoch: vm.epoch,
    };
    this.#grants.put(grant);
    return success(grant);
  }

  async listGrants(accountId: string, page: Page): Promise<Result<{ grants: readonly GrantRow[]; total: number }>> {
    const row = this.#owned(accountId);
    if (row === null) return notFound();
    return success({ grants: this.#grants.list(row.id, this.bounds(page)), total: this.#grants.count() });
  }

  async getGrant(accountId: string, vmId: string): Promise<Result<GrantRow>> {
    const row = this.#owned(accountId);
    if (row === null) return notFound();
    const grant = this.#grants.get(row.id, vmId);
    return grant === null ? noGrant() : success(grant);
  }

  async updateGrant(accountId: string, vm: GrantedVm, allowedUsers: readonly string[] | null): Promise<Result<GrantRow>> {
    const row = this.#owned(accountId);
    if (row === null) return notFound();
    const refusal = this.#refuseUsers(allowedUsers);
    if (refusal !== null) return failure("bad-request", refusal);
    const before = this.#grants.get(row.id, vm.id);
    if (before === null || isOver(before, vm)) return noGrant();
    const after = { ...before, allowedUsers };
    if (isNarrower(before.allowedUsers, allowedUsers)) await this.#narrow(row, () => this.#grants.put(after));
    else this.#grants.put(after);
    return success(after);
  }

  async revokeGrant(accountId: string, vmId: string): Promise<Result<null>> {
    const row = this.#owned(accountId);
    if (row === null) return notFound();
    if (this.#grants.get(row.id, vmId) === null) return noGrant();
    await this.#narrow(row, () => this.#grants.drop(vmId));
    return success(null);
  }

  async untold(): Promise<readonly string[]> {
    return this.schema.exists ? this.#outbox.untold() : [];
  }

  async checkToken(secretHash: string): Promise<Result<IdentityStanding>> {
    const found = this.#authenticate((now) => this.#tokens.withHash(secretHash, now));
    if (found === null) return failure("credential-invalid", CREDENTIAL_INVALID_MESSAGE);
    const { row, token, now } = found;
    return success({ accountId: row.account_id, identityId: row.id, tokenId: token.id, epoch: row.epoch, readAt: now });
  }

  async verdict(secretHash: string, question: VerdictQuestion): Promise<Result<Verdict>> {
    return this.#decide((now) => this.#tokens.withHash(secretHash, now), question);
  }

  async recheck(tokenId: string, question: VerdictQuestion): Promise<Result<Verdict>> {
    return this.#decide((now) => this.#tokens.withId(tokenId, now), question);
  }

  override async alarm(): Promise<void> {
    const row = this.#row();
    if (row === null) return;
    const now = this.clock();
    const due = this.#tokens.nextExpiry(row.swept_at);
    // Nobody reads an expired token as live; the floor is for the sessions that began with it.
    if (due !== null && due <= now) await this.#narrow(row, () => this.sql.exec("UPDATE identity SET swept_at = ?", now));
    else await this.#deliver();
  }

  #decide(findToken: FindToken, question: VerdictQuestion): Result<Verdict> {
    const found = this.#authenticate(findToken);
    if (found === null) return failure("credential-invalid", CREDENTIAL_INVALID_MESSAGE);
    const { row, token, now } = found;
    const grant = this.#grants.get(row.id, question.vmId);
    const decided = decide(question, grant);
    if (!decided.ok) return decided;
    return success({
      subject: identitySubject(row.id),
      accountId: row.account_id,
      credentialId: token.id,
      vmId: question.vmId,
      operation: question.operation,
      linuxUser: decided.value,
      epoch: row.epoch,
      readAt: now,
      expiresAt: token.expiresAt,
      grant: grant === null ? null : { vmEpoch: grant.vmEpoch },
    });
  }

  /** Makes a change that takes something away: the change, the new epoch and its floor stand or fall together. */
  async #narrow(row: Row, change: () => void): Promise<void> {
    this.ctx.storage.transactionSync(() => {
      change();
      this.sql.exec("UPDATE identity SET epoch = epoch + 1");
      this.#outbox.append({ sub: identitySubject(row.id), epoch: row.epoch + 1, at: this.clock() });
    });
    await this.#deliver();
  }

  async #deliver(): Promise<void> {
    await Promise.all([this.#outbox.deliver(), this.#leaveIndex()]);
    await this.#rearm();
  }

  async #rearm(): Promise<void> {
    const now = this.clock();
    const wait = this.#outbox.retryInMs() ?? (this.#mustLeaveIndex() === null ? null : this.settings.FLOOR_RETRY_MAX_MS);
    const expiry = this.#tokens.nextExpiry(this.#row()?.swept_at ?? 0);
    const times = [wait === null ? null : now + wait, expiry === null ? null : Math.max(expiry, now)].filter((at) => at !== null);
    if (times.length === 0) await this.ctx.storage.deleteAlarm();
    else await this.ctx.storage.setAlarm(Math.min(...times));
  }

  #mustLeaveIndex(): Row | null {
    const row = this.#row();
    return row !== null && row.removed_at !== null && row.listed === 1 ? row : null;
  }

  async #leaveIndex(): Promise<void> {
    const row = this.#mustLeaveIndex();
    if (row === null) return;
    try {
      await this.#account(row.account_id).removeIdentity(row.id);
    } catch (error) {
      console.warn(JSON.stringify({ message: "a removed identity is still listed", identity: row.id, error: String(error) }));
      return;
    }
    this.sql.exec("UPDATE identity SET listed = 0");
  }

  #authenticate(findToken: FindToken): { row: Row; token: TokenRow; now: number } | null {
    const row = this.#row();
    if (row === null || row.removed_at !== null) return null;
    const now = this.clock();
    const token = findToken(now);
    return token === null ? null : { row, token, now };
  }

  #row(): Row | null {
    if (!this.schema.exists) return null;
    return this.sql.exec<Row>("SELECT * FROM identity").toArray()[0] ?? null;
  }

  #owned(accountId: string): Row | null {
    const row = this.#row();
    return row !== null && row.removed_at === null && row.account_id === accountId ? row : null;
  }

  #account(accountId: string) {
    return this.env.ACCOUNT.getByName(accountId);
  }

  #refuseUsers(allowedUsers: readonly string[] | null): string | null {
    if (allowedUsers === null) return null;
    const most = this.settings.MAX_USERS_PER_GRANT;
    if (allowedUsers.length > most) return `A grant may list at most ${most} Linux users.`;
    return allowedUsers.every(isLinuxUser) ? null : "A Linux user must match ^[a-z_][a-z0-9_-]{0,31}$.";
  }
}

function notFound() {
  return failure("identity-not-found", IDENTITY_NOT_FOUND_MESSAGE);
}

function noGrant() {
  return failure("grant-not-found", "This identity has no grant on this VM.");
}
