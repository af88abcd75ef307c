import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import type { GrantedVm, VerdictQuestion } from "../../durable-objects/contract.ts";
import type { Region } from "../../durable-objects/region.ts";
import { VM_NOT_FOUND_MESSAGE } from "../../protocol/messages.ts";
import { OPERATIONS } from "../../protocol/operations.ts";
import {
  bindings,
  dumpStorage,
  freshName,
  freshVmId,
  localRegion,
  must,
  newAccount,
  newIdentity,
  refusal,
  runSql,
  secretHashOf,
  setClock,
  setSettings,
} from "./objects.ts";

const exec = (vmId: string, linuxUser: string | null = "root"): VerdictQuestion => ({ vmId, operation: "exec", linuxUser });
const PAGE = { offset: 0, limit: 100 };

let account: Awaited<ReturnType<typeof newAccount>>;
let identity: Awaited<ReturnType<typeof newIdentity>>["object"];
let identityId: string;
let vmId: string;

beforeEach(async () => {
  account = await newAccount();
  ({ object: identity, id: identityId } = await newIdentity(account.id));
  vmId = freshVmId();
});

/** The VM as it is granted. */
const vm = (other: Partial<GrantedVm> = {}): GrantedVm => ({ id: vmId, epoch: 1, unnotedEpoch: 1, ...other });

async function newToken(options: { expiresAt?: number } = {}) {
  const made = must(await identity.createToken(account.id, { name: null, expiresAt: options.expiresAt ?? null }));
  return { ...made, hash: await secretHashOf(made.token) };
}

async function epoch(): Promise<number> {
  const [row] = await runSql(identity, "SELECT epoch FROM identity");
  return Number(row?.epoch);
}

async function floorsOfIdentity(): Promise<unknown[]> {
  const rows = await runSql(await localRegion(), `SELECT epoch FROM floors WHERE sub = 'identity:${identityId}'`);
  return rows.map((row) => row.epoch);
}

describe("who owns an identity", () => {
  it("answers the same bytes to another account as for an identity that does not exist or was removed", async () => {
    const other = await newAccount();
    const missing = bindings.IDENTITY.getByName(freshName());
    const removed = await newIdentity(account.id);
    must(await removed.object.remove(account.id));
    const answers: unknown[] = [];
    for (const [object, caller] of [
      [identity, other.id],
      [missing, account.id],
      [removed.object, account.id],
    ] as const) {
      answers.push(
        await object.describe(caller),
        await object.remove(caller),
        await object.createToken(caller, { name: null, expiresAt: null }),
        await object.listTokens(caller, PAGE),
        await object.revokeToken(caller, "sometokensometok"),
        await object.grant(caller, vm(), null, "me"),
        await object.listGrants(caller, PAGE),
        await object.getGrant(caller, vmId),
        await object.updateGrant(caller, vm(), null),
        await object.revokeGrant(caller, vmId),
      );
    }
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(answers[0]).toMatchObject({ ok: false, failure: { kind: "identity-not-found" } });
    expect((await identity.describe(account.id)).ok).toBe(true);
  });

  it("is listed by its account from creation to removal", async () => {
    const listed = async () => must(await account.object.listIdentities({ ...PAGE, includeManaged: false })).identities;
    expect(await listed()).toEqual([must(await identity.describe(account.id))]);
    must(await identity.remove(account.id));
    expect(await listed()).toEqual([]);
  });

  it("is refused when its account is full, and then does not exist", async () => {
    await setSettings(account.object, { MAX_IDENTITIES_PER_ACCOUNT: 1 });
    const object = bindings.IDENTITY.getByName(freshName());
    expect(refusal(await object.create(account.id, false))).toBe("quota-exceeded");
    expect(refusal(await object.describe(account.id))).toBe("identity-not-found");
  });

  it("cannot be made twice, not even after it was removed", async () => {
    expect(refusal(await identity.create(account.id, false))).toBe("conflict");
    must(await identity.remove(account.id));
    expect(refusal(await identity.create(account.id, false))).toBe("conflict");
  });

  it("is taken off the list by alarm when its account could not be reached at removal", async () => {
    await runSql(account.object, "ALTER TABLE identities RENAME TO identities_broken");
    must(await identity.remove(account.id));
    await runSql(account.object, "ALTER TABLE identities_broken RENAME TO identities");
    expect(await runDurableObjectAlarm(identity)).toBe(true);
    expect(must(await account.object.listIdentities({ ...PAGE, includeManaged: false })).identities).toEqual([]);
  });
});

describe("an access token", () => {
  it("answers the same bytes whether it is unknown, revoked, expired or of a removed identity", async () => {
    const now = Date.now();
    const revoked = await newToken();
    must(await identity.revokeToken(account.id, revoked.id));
    const expiring = await newToken({ expiresAt: now + 60_000 });
    await setClock(identity, now + 60_000);
    const answers: unknown[] = [];
    for (const hash of ["0".repeat(64), revoked.hash, expiring.hash]) {
      answers.push(await identity.checkToken(hash), await identity.verdict(hash, exec(vmId)));
    }
    answers.push(await identity.recheck(revoked.id, exec(vmId)), await identity.recheck(expiring.id, exec(vmId)));
    const live = await newToken();
    must(await identity.remove(account.id));
    answers.push(await identity.verdict(live.hash, exec(vmId)));
    answers.push(await bindings.IDENTITY.getByName(freshName()).verdict(live.hash, exec(vmId)));
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(answers[0]).toMatchObject({ ok: false, failure: { kind: "credential-invalid" } });
  });

  it("is good until the millisecond it expires, and its verdicts say when that is", async () => {
    const now = Date.now();
    const token = await newToken({ expiresAt: now + 60_000 });
    must(await identity.grant(account.id, vm(), null, "me"));
    await setClock(identity, now + 59_999);
    expect(must(await identity.verdict(token.hash, exec(vmId))).expiresAt).toBe(now + 60_000);
    await setClock(identity, now + 60_000);
    expect(refusal(await identity.verdict(token.hash, exec(vmId)))).toBe("credential-invalid");
  });

  it("is not made already expired", async () => {
    const made = await identity.createToken(account.id, { name: null, expiresAt: Date.now() - 1 });
    expect(refusal(made)).toBe("bad-request");
  });

  it("is not found to be revoked a second time, nor once it expired", async () => {
    const token = await newToken();
    must(await identity.revokeToken(account.id, token.id));
    expect(refusal(await identity.revokeToken(account.id, token.id))).toBe("token-not-found");
    expect(refusal(await identity.revokeToken(account.id, "nosuchtokennosuc"))).toBe("token-not-found");
    expect(await epoch()).toBe(2);
  });

  it("that was revoked leaves the identity's other tokens good", async () => {
    const [kept, revoked] = [await newToken(), await newToken()];
    must(await identity.revokeToken(account.id, revoked.id));
    expect(must(await identity.checkToken(kept.hash))).toMatchObject({ tokenId: kept.id, epoch: 2 });
    expect(must(await identity.listTokens(account.id, PAGE)).tokens.map((token) => token.id)).toEqual([kept.id]);
  });

  it("is refused beyond the quota; a revoked one frees its place", async () => {
    await setSettings(identity, { MAX_TOKENS_PER_IDENTITY: 1 });
    const token = await newToken();
    expect(refusal(await identity.createToken(account.id, { name: null, expiresAt: null }))).toBe("quota-exceeded");
    must(await identity.revokeToken(account.id, token.id));
    await newToken();
  });

  it("is stored as the hash of its secret and nothing else: no secret, no MAC", async () => {
    const token = await newToken();
    const stored = await dumpStorage(identity);
    expect(stored).toContain(token.hash);
    expect(stored).not.toContain(token.token.slice(20, 44));
    expect(stored).not.toContain(token.token.slice(44));
  });

  it("leaves no storage behind when it names an identity that was never made", async () => {
    const object = bindings.IDENTITY.getByName(freshName());
    await object.verdict("0".repeat(64), exec(vmId));
    expect(await dumpStorage(object)).toBe("[]");
  });
});

describe("a verdict", () => {
  it("refuses what is closed to access tokens before it looks at grants", async () => {
    const token = await newToken();
    for (const operation of OPERATIONS.filter((one) => ["create", "stop", "suspend", "delete"].includes(one))) {
      const ungranted = await identity.verdict(token.hash, { vmId: freshVmId(), operation, linuxUser: null });
      expect(refusal(ungranted)).toBe("forbidden");
    }
    must(await identity.grant(account.id, vm(), null, "me"));
    expect(refusal(await identity.verdict(token.hash, { vmId, operation: "delete", linuxUser: null }))).toBe("forbidden");
  });

  it("says of a VM that is not granted what is said of one that does not exist", async () => {
    const token = await newToken();
    const answer = await identity.verdict(token.hash, exec(vmId));
    expect(answer).toEqual({ ok: false, failure: { kind: "vm-not-found", message: VM_NOT_FOUND_MESSAGE } });
  });

  it("refuses a Linux user that the grant does not list, and names those it lists", async () => {
    const token = await newToken();
    must(await identity.grant(account.id, vm(), ["developer", "ci"], "me"));
    const answer = await identity.verdict(token.hash, exec(vmId));
    expect(answer).toMatchObject({
      ok: false,
      failure: { kind: "linux-user-forbidden", details: { allowedUsers: ["developer", "ci"] } },
    });
    expect(JSON.stringify(answer)).toContain("developer, ci");
    expect(must(await identity.verdict(token.hash, exec(vmId, "ci"))).linuxUser).toBe("ci");
  });

  it("lets a grant of no users read and start the VM and nothing more", async () => {
    const token = await newToken();
    must(await identity.grant(account.id, vm(), [], "me"));
    expect(refusal(await identity.verdict(token.hash, exec(vmId)))).toBe("linux-user-forbidden");
    expect(must(await identity.verdict(token.hash, { vmId, operation: "start", linuxUser: "root" })).linuxUser).toBeNull();
  });

  it("refuses an operation in the guest for which no Linux user was settled", async () => {
    const token = await newToken();
    must(await identity.grant(account.id, vm(), null, "me"));
    expect(refusal(await identity.verdict(token.hash, exec(vmId, null)))).toBe("bad-request");
  });

  it("carries the subject, the credential, the epoch and when it was read", async () => {
    const token = await newToken();
    must(await identity.grant(account.id, vm(), null, "me"));
    await setClock(identity, 1_800_000_000_000);
    const expected = {
      subject: `identity:${identityId}`,
      accountId: account.id,
      credentialId: token.id,
      vmId,
      operation: "exec",
      linuxUser: "root",
      epoch: 1,
      readAt: 1_800_000_000_000,
      expiresAt: null,
      grant: { vmEpoch: 1 },
    };
    expect(must(await identity.verdict(token.hash, exec(vmId)))).toEqual(expected);
    expect(must(await identity.recheck(token.id, exec(vmId)))).toEqual(expected);
  });
});

describe("a grant", () => {
  it("is not given twice on one VM", async () => {
    must(await identity.grant(account.id, vm(), ["ci"], "me"));
    expect(refusal(await identity.grant(account.id, vm(), null, "me"))).toBe("grant-exists");
    expect(must(await identity.getGrant(account.id, vmId)).allowedUsers).toEqual(["ci"]);
  });

  it("of an earlier hold on the VM is replaced, not updated, and never replaces one of a later hold", async () => {
    const token = await newToken();
    must(await identity.grant(account.id, vm(), null, "me"));
    expect(refusal(await identity.updateGrant(account.id, vm({ epoch: 3 }), ["ci"]))).toBe("grant-not-found");
    must(await identity.grant(account.id, vm({ epoch: 3 }), ["ci"], "me"));
    expect(must(await identity.verdict(token.hash, exec(vmId, "ci"))).grant).toEqual({ vmEpoch: 3 });
    expect(refusal(await identity.grant(account.id, vm(), null, "me"))).toBe("grant-exists");
    expect(must(await identity.getGrant(account.id, vmId)).allowedUsers).toEqual(["ci"]);
    expect(await epoch()).toBe(1);
  });

  it("that an older build gave counts as given at the epoch that the VM had when grants began to note it", async () => {
    const token = await newToken();
    must(await identity.grant(account.id, vm(), ["ci"], "me"));
    // What the schema's step made of rows that were there.
    await runSql(identity, "UPDATE grants SET vm_epoch = NULL");
    expect(must(await identity.verdict(token.hash, exec(vmId, "ci"))).grant).toEqual({ vmEpoch: null });
    const stayed = vm({ epoch: 3, unnotedEpoch: 3 });
    must(await identity.updateGrant(account.id, stayed, null));
    expect(refusal(await identity.grant(account.id, stayed, null, "me"))).toBe("grant-exists");
    const left = vm({ epoch: 5, unnotedEpoch: 3 });
    expect(refusal(await identity.updateGrant(account.id, left, ["ci"]))).toBe("grant-not-found");
    must(await identity.grant(account.id, left, ["ci"], "me"));
    expect(must(await identity.verdict(token.hash, exec(vmId, "ci"))).grant).toEqual({ vmEpoch: 5 });
  });

  it("is not found, updated or revoked where there is none", async () => {
    expect(refusal(await identity.getGrant(account.id, vmId))).toBe("grant-not-found");
    expect(refusal(await identity.updateGrant(account.id, vm(), null))).toBe("grant-not-found");
    expect(refusal(await identity.revokeGrant(account.id, vmId))).toBe("grant-not-found");
    expect(await epoch()).toBe(1);
  });

  it("refuses names that are no Linux users, and too many of them", async () => {
    await setSettings(identity, { MAX_USERS_PER_GRANT: 2 });
    for (const users of [["Root"], ["a b"], [""], ["root;id"], ["-x"], ["a", "b", "c"]]) {
      expect(refusal(await identity.grant(account.id, vm(), users, "me"))).toBe("bad-request");
    }
    must(await identity.grant(account.id, vm(), ["a"], "me"));
    expect(refusal(await identity.updateGrant(account.id, vm(), ["A"]))).toBe("bad-request");
  });

  it("is refused beyond the quota", async () => {
    await setSettings(identity, { MAX_GRANTS_PER_IDENTITY: 1 });
    must(await identity.grant(account.id, vm(), null, "me"));
    expect(refusal(await identity.grant(account.id, vm({ id: freshVmId() }), null, "me"))).toBe("quota-exceeded");
  });

  it("raises the epoch when an update takes somebody away, and only then", async () => {
    must(await identity.grant(account.id, vm(), ["a", "b"], "me"));
    const steps: [readonly string[] | null, number][] = [
      [["a", "b", "c"], 1],
      [["c", "b", "a"], 1],
      [null, 1],
      [["a", "b"], 2],
      [["a", "c"], 3],
      [[], 4],
      [["a"], 4],
    ];
    for (const [users, expected] of steps) {
      must(await identity.updateGrant(account.id, vm(), users));
      expect([users, await epoch()]).toEqual([users, expected]);
    }
    expect(await floorsOfIdentity()).toEqual([4]);
  });

  it("that was revoked makes the VM not found, with the floor in the region before the answer", async () => {
    const token = await newToken();
    must(await identity.grant(account.id, vm(), null, "me"));
    must(await identity.revokeGrant(account.id, vmId));
    expect(await floorsOfIdentity()).toEqual([2]);
    expect(refusal(await identity.verdict(token.hash, exec(vmId)))).toBe("vm-not-found");
    expect(await runDurableObjectAlarm(identity)).toBe(false);
  });
});

describe("a narrowing change", () => {
  // A new stub each time: a crash breaks those that were made before it.
  const breakRegion = async () => {
    await (await localRegion()).deliverFloors([]);
    await runSql(await localRegion(), "ALTER TABLE floors RENAME TO floors_broken");
  };
  const repairRegion = async () => {
    await runSql(await localRegion(), "ALTER TABLE floors_broken RENAME TO floors");
  };

  it("reaches the region by alarm when the region failed, even after a crash of the identity", async () => {
    const token = await newToken();
    await breakRegion();
    must(await identity.revokeToken(account.id, token.id));
    await abortAllDurableObjects();
    await repairRegion();
    const again = bindings.IDENTITY.getByName(identityId);
    expect(refusal(await again.checkToken(token.hash))).toBe("credential-invalid");
    expect(await runDurableObjectAlarm(again)).toBe(true);
    expect(await floorsOfIdentity()).toEqual([2]);
    expect(await runDurableObjectAlarm(again)).toBe(false);
  });

  it("waits longer between attempts, up to the limit", async () => {
    const token = await newToken();
    await breakRegion();
    must(await identity.revokeToken(account.id, token.id));
    const now = Date.now() + 1_000_000;
    await setClock(identity, now);
    const waits = [];
    for (let attempt = 0; attempt < 7; attempt += 1) {
      await runDurableObjectAlarm(identity);
      waits.push(await runInDurableObject(identity, async (_object, state) => ((await state.storage.getAlarm()) ?? 0) - now));
    }
    await repairRegion();
    expect(waits).toEqual([2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  });

  it("sends only the newest of several floors that a region missed", async () => {
    const tokens = [await newToken(), await newToken(), await newToken()];
    await breakRegion();
    for (const token of tokens) must(await identity.revokeToken(account.id, token.id));
    expect(await runSql(identity, "SELECT region, epoch FROM outbox")).toEqual([{ region: "local", epoch: 4 }]);
    await repairRegion();
    await runDurableObjectAlarm(identity);
    expect(await floorsOfIdentity()).toEqual([4]);
  });

  it("answers after the delivery limit when a region hangs, and the floor is still on its way", async () => {
    const token = await newToken();
    await setSettings(identity, { FLOOR_DELIVERY_MS: 20 });
    const region = await localRegion();
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const hang = runInDurableObject(region as DurableObjectStub<Region>, (_object, state) =>
      state.blockConcurrencyWhile(() => held),
    );
    must(await identity.revokeToken(account.id, token.id));
    expect(await runSql(identity, "SELECT epoch FROM outbox")).toEqual([{ epoch: 2 }]);
    release();
    await hang;
    await runDurableObjectAlarm(identity);
    expect(await floorsOfIdentity()).toEqual([2]);
  });

  it("forgets a region that left the deployment", async () => {
    const token = await newToken();
    await runSql(identity, "INSERT INTO outbox VALUES ('gone', 'identity:x', 1, 1, 0)");
    must(await identity.revokeToken(account.id, token.id));
    expect(await runSql(identity, "SELECT * FROM outbox")).toEqual([]);
  });

  it("of two made at once leaves both in force and the higher floor delivered", async () => {
    const [one, two] = [await newToken(), await newToken()];
    await Promise.all([identity.revokeToken(account.id, one.id), identity.revokeToken(account.id, two.id)]);
    expect(await epoch()).toBe(3);
    expect(await floorsOfIdentity()).toEqual([3]);
    expect(refusal(await identity.checkToken(one.hash))).toBe("credential-invalid");
    expect(refusal(await identity.checkToken(two.hash))).toBe("credential-invalid");
  });
});
