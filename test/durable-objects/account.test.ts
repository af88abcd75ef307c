import { runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { VmRecord, VmState } from "../../durable-objects/vm-contract.ts";
import { PLAIN_VM, traitsOf } from "../../durable-objects/vm-spec.ts";
import {
  bindings,
  dumpStorage,
  freshName,
  freshVmId,
  localRegion,
  must,
  newAccount,
  refusal,
  runSql,
  secretHashOf,
  setClock,
  setSettings,
} from "./objects.ts";

const vm = (accountId: string, state: VmState = "running", updatedAt = 1, id = freshVmId()): VmRecord => ({
  ...traitsOf(PLAIN_VM),
  id,
  accountId,
  resources: {},
  snapshotId: null,
  state,
  region: "local",
  hostId: "hosthosthosthost",
  createdAt: updatedAt,
  updatedAt,
});

describe("an account's keys", () => {
  it("lets nobody make the same account twice, and the first key stays good", async () => {
    const account = await newAccount();
    expect(refusal(await account.object.create("again"))).toBe("conflict");
    expect((await account.object.checkKey(await secretHashOf(account.apiKey))).ok).toBe(true);
  });

  it("makes one account of many simultaneous creates", async () => {
    const object = bindings.ACCOUNT.getByName(freshName());
    const made = await Promise.all([object.create("a"), object.create("b"), object.create("c")]);
    expect(made.filter((result) => result.ok)).toHaveLength(1);
  });

  it("answers the same bytes for an unknown key, a revoked key and an account that does not exist", async () => {
    const account = await newAccount();
    const second = must(await account.object.createKey("second"));
    must(await account.object.revokeKey(second.keyId));
    const answers = await Promise.all([
      account.object.checkKey("0".repeat(64)),
      account.object.checkKey(await secretHashOf(second.apiKey)),
      bindings.ACCOUNT.getByName(freshName()).checkKey("0".repeat(64)),
      account.object.recheck(second.keyId),
    ]);
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(refusal(must({ ok: true, value: answers[0] }))).toBe("credential-invalid");
  });

  it("refuses to revoke a key twice, an unknown key, and another account's key", async () => {
    const [account, other] = [await newAccount(), await newAccount()];
    const key = must(await account.object.createKey(null));
    must(await account.object.revokeKey(key.keyId));
    expect(refusal(await account.object.revokeKey(key.keyId))).toBe("token-not-found");
    expect(refusal(await account.object.revokeKey("nosuchkeynosuchk"))).toBe("token-not-found");
    expect(refusal(await account.object.revokeKey(other.keyId))).toBe("token-not-found");
  });

  it("raises the epoch and has the floor in the region before a revocation answers", async () => {
    const account = await newAccount();
    const key = must(await account.object.createKey(null));
    must(await account.object.revokeKey(key.keyId));
    expect(must(await account.object.epoch()).epoch).toBe(2);
    const floors = await runSql(await localRegion(), `SELECT epoch FROM floors WHERE sub = 'account:${account.id}'`);
    expect(floors).toEqual([{ epoch: 2 }]);
    expect(await runDurableObjectAlarm(account.object)).toBe(false);
  });

  it("does not raise the epoch for a new key", async () => {
    const account = await newAccount();
    must(await account.object.createKey(null));
    expect(must(await account.object.epoch()).epoch).toBe(1);
  });

  it("refuses a key beyond the quota and frees a place when one is revoked", async () => {
    const account = await newAccount();
    await setSettings(account.object, { MAX_KEYS_PER_ACCOUNT: 2 });
    const second = must(await account.object.createKey(null));
    expect(refusal(await account.object.createKey(null))).toBe("quota-exceeded");
    must(await account.object.revokeKey(second.keyId));
    must(await account.object.createKey(null));
    expect(must(await account.object.listKeys({ offset: 0, limit: 10 })).total).toBe(2);
  });

  it("stores the hash of a key's secret and nothing else of the key", async () => {
    const account = await newAccount();
    const stored = await dumpStorage(account.object);
    expect(stored).toContain(await secretHashOf(account.apiKey));
    expect(stored).not.toContain(account.apiKey.slice(20, 44));
    expect(stored).not.toContain(account.apiKey.slice(44));
  });

  it("leaves no storage behind when asked about an account that was never made", async () => {
    const object = bindings.ACCOUNT.getByName(freshName());
    await object.checkKey("0".repeat(64));
    await object.listVms({ offset: 0, limit: 10, includeDeleted: true });
    await object.noteVm(vm("nosuchaccount234"));
    expect(await dumpStorage(object)).toBe("[]");
  });
});

describe("an account's index", () => {
  it("refuses a VM beyond the quota until another is deleted", async () => {
    const account = await newAccount();
    await setSettings(account.object, { MAX_VMS_PER_ACCOUNT: 1 });
    const first = vm(account.id);
    must(await account.object.addVm(first, null));
    must(await account.object.addVm(first, null));
    expect(refusal(await account.object.addVm(vm(account.id), null))).toBe("vm-quota-exceeded");
    await account.object.noteVm({ ...first, state: "deleted", updatedAt: 2 });
    must(await account.object.addVm(vm(account.id), null));
  });

  it("ignores a record that is older than the one it knows", async () => {
    const account = await newAccount();
    const newest = vm(account.id, "suspended", 10);
    must(await account.object.addVm(newest, null));
    await account.object.noteVm({ ...newest, state: "running", updatedAt: 9 });
    const { vms, counts } = must(await account.object.listVms({ offset: 0, limit: 10, includeDeleted: false }));
    expect(vms).toEqual([{ ...newest, slug: null }]);
    expect([counts.suspended, counts.running]).toEqual([1, 0]);
  });

  it("takes in no VM of another account", async () => {
    const account = await newAccount();
    await account.object.noteVm(vm("otheraccount2345"));
    expect((await account.object.addVm(vm("otheraccount2345"), null)).ok).toBe(false);
    expect(must(await account.object.listVms({ offset: 0, limit: 10, includeDeleted: true })).total).toBe(0);
  });

  it("pages VMs oldest first, with totals that fit the filter", async () => {
    const account = await newAccount();
    const all = [
      vm(account.id, "running", 1),
      vm(account.id, "deleted", 2),
      vm(account.id, "stopped", 3),
      vm(account.id, "running", 4),
    ];
    for (const one of all) must(await account.object.addVm(one, null));
    const list = async (query: Parameters<typeof account.object.listVms>[0]) => {
      const { vms, total } = must(await account.object.listVms(query));
      return [vms.map((one) => one.createdAt), total];
    };
    expect(await list({ offset: 0, limit: 10, includeDeleted: false })).toEqual([[1, 3, 4], 3]);
    expect(await list({ offset: 1, limit: 1, includeDeleted: false })).toEqual([[3], 3]);
    expect(await list({ offset: 1, limit: 2, includeDeleted: true })).toEqual([[2, 3], 4]);
    expect(await list({ offset: 0, limit: 10, includeDeleted: false, state: "running" })).toEqual([[1, 4], 2]);
    expect(await list({ offset: 9, limit: 10, includeDeleted: false })).toEqual([[], 3]);
  });

  it("keeps a page within bounds whatever is asked", async () => {
    const account = await newAccount();
    await setSettings(account.object, { MAX_PAGE_SIZE: 2 });
    for (const at of [1, 2, 3]) must(await account.object.addVm(vm(account.id, "running", at), null));
    for (const [limit, offset, length] of [
      [1_000_000, 0, 2],
      [-1, -5, 0],
      [Number.NaN, 0, 0],
    ] as const) {
      const { vms } = must(await account.object.listVms({ offset, limit, includeDeleted: false }));
      expect(vms).toHaveLength(length);
    }
  });

  it("lists managed identities only when asked, and counts likewise", async () => {
    const account = await newAccount();
    must(await account.object.addIdentity({ id: freshName(), managed: true, createdAt: 1 }));
    must(await account.object.addIdentity({ id: freshName(), managed: false, createdAt: 2 }));
    const totals = [];
    for (const includeManaged of [false, true]) {
      const page = must(await account.object.listIdentities({ offset: 0, limit: 10, includeManaged }));
      totals.push([page.identities.length, page.total]);
    }
    expect(totals).toEqual([
      [1, 1],
      [2, 2],
    ]);
  });

  it("refuses an identity beyond the quota, and counts one that is entered twice once", async () => {
    const account = await newAccount();
    await setSettings(account.object, { MAX_IDENTITIES_PER_ACCOUNT: 1 });
    const identity = { id: freshName(), managed: false, createdAt: 1 };
    must(await account.object.addIdentity(identity));
    must(await account.object.addIdentity(identity));
    expect(refusal(await account.object.addIdentity({ ...identity, id: freshName() }))).toBe("quota-exceeded");
    await account.object.removeIdentity(identity.id);
    await account.object.removeIdentity(identity.id);
    must(await account.object.addIdentity({ ...identity, id: freshName() }));
  });
});

describe("an account's floors", () => {
  it("are delivered again by alarm, with back-off, until the region takes them", async () => {
    const account = await newAccount();
    const key = must(await account.object.createKey(null));
    const region = await localRegion();
    await region.deliverFloors([]);
    await runSql(region, "ALTER TABLE floors RENAME TO floors_broken");
    await setClock(account.object, Date.now());
    must(await account.object.revokeKey(key.keyId));
    expect(await runDurableObjectAlarm(account.object)).toBe(true);
    expect(await runSql(account.object, "SELECT epoch, attempts FROM outbox")).toEqual([{ epoch: 2, attempts: 2 }]);
    await runSql(region, "ALTER TABLE floors_broken RENAME TO floors");
    expect(await runDurableObjectAlarm(account.object)).toBe(true);
    expect(await runSql(region, `SELECT epoch FROM floors WHERE sub = 'account:${account.id}'`)).toEqual([{ epoch: 2 }]);
    expect(await runDurableObjectAlarm(account.object)).toBe(false);
  });
});
