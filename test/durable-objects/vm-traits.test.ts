import { reset, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { VmSpec } from "../../durable-objects/vm-contract.ts";
import { PLAIN_VM } from "../../durable-objects/vm-spec.ts";
import { forgetSigner } from "../../worker/tickets/signer.ts";
import { bindings, freshName, freshVmId, must, newAccount, refusal, setClock, setSettings } from "./objects.ts";
import { asked, script, scriptedHostUrl, seen } from "./scripted-host.ts";
import { joinHost } from "./verifiers.ts";

let account: Awaited<ReturnType<typeof newAccount>>;
let host: Awaited<ReturnType<typeof joinHost>>;
let vmId: string;

beforeEach(async () => {
  account = await newAccount();
  host = await joinHost({ url: scriptedHostUrl() });
  vmId = freshVmId();
});

afterEach(async () => {
  await reset();
  forgetSigner();
});

const vm = () => bindings.VM.getByName(vmId);
const create = async (wanted: Partial<VmSpec>) => must(await vm().create(account.id, vmId, { ...PLAIN_VM, ...wanted }));
const alarmAt = () => runInDurableObject(vm(), (_object, state) => state.storage.getAlarm());
const listed = async () => must(await account.object.listVms({ offset: 0, limit: 10, includeDeleted: true })).vms;
/** Moves the VM's clock and lets its alarm ring. */
const later = async (seconds: number) => {
  await setClock(vm(), Date.now() + seconds * 1000);
  return runDurableObjectAlarm(vm());
};

describe("a VM with a time to live", () => {
  it("is deleted when it is over, though it runs, and not before", async () => {
    const { createdAt } = await create({ ttlSeconds: 100 });
    expect(await alarmAt()).toBe(createdAt + 100_000);
    await later(50);
    expect(must(await vm().read(account.id)).state).toBe("running");
    await later(101);
    expect(refusal(await vm().read(account.id))).toBe("vm-not-found");
    expect(await asked(vmId)).toEqual(["create", "delete"]);
    expect((await listed()).map(({ state }) => state)).toEqual(["deleted"]);
    expect(await alarmAt()).toBeNull();
  });

  it("whose host is away when it is over is deleted by a later alarm", async () => {
    await create({ ttlSeconds: 100 });
    await script(vmId, { op: "delete", act: "drop" });
    await later(101);
    expect(await seen(vmId)).toMatchObject({ state: "running" });
    expect(await alarmAt()).not.toBeNull();
    await later(200);
    expect(await seen(vmId)).toMatchObject({ state: "missing" });
    expect(refusal(await vm().read(account.id))).toBe("vm-not-found");
  });

  it("has it counted from its creation when it is given one later, and loses it when it is taken away", async () => {
    const { createdAt } = await create({});
    expect(await alarmAt()).toBeNull();
    must(await vm().update(account.id, { ttlSeconds: 500 }));
    expect(await alarmAt()).toBe(createdAt + 500_000);
    must(await vm().update(account.id, { ttlSeconds: null }));
    expect(await alarmAt()).toBeNull();
  });
});

describe("a VM that is deleted when it is not used", () => {
  it("stays as long as it runs, and each start begins the time anew", async () => {
    await create({ autoDeleteSeconds: 100 });
    expect(await alarmAt()).toBeNull();
    must(await vm().suspend(account.id));
    expect(await alarmAt()).not.toBeNull();
    must(await vm().start(account.id));
    expect(await alarmAt()).toBeNull();
    must(await vm().stop(account.id));
    await later(50);
    expect(must(await vm().read(account.id)).state).toBe("stopped");
    await later(200);
    expect(refusal(await vm().read(account.id))).toBe("vm-not-found");
  });

  it("goes too when it was its host that put it to sleep, counted from its sleep and not from its stop after it", async () => {
    await create({ autoDeleteSeconds: 100 });
    await vm().observe(host.id, "suspended", Date.now() + 60_000);
    const due = await alarmAt();
    expect(due).not.toBeNull();
    await vm().observe(host.id, "stopped", Date.now() + 61_000);
    expect(await alarmAt()).toBe(due);
  });

  it("at once when it stops outlives a sleep", async () => {
    await create({ autoDeleteSeconds: 0 });
    must(await vm().suspend(account.id));
    expect(await alarmAt()).toBeNull();
    must(await vm().stop(account.id));
    await later(0);
    expect(refusal(await vm().read(account.id))).toBe("vm-not-found");
  });
});

describe("an update", () => {
  it("is listed, and leaves the lifecycle alone", async () => {
    await create({ name: "old", metadata: { a: "1" } });
    must(await vm().update(account.id, { name: "new", metadata: { b: "2" } }));
    expect(await listed()).toMatchObject([{ name: "new", metadata: { a: "1", b: "2" }, state: "running" }]);
    expect(await asked(vmId)).toEqual(["create"]);
  });

  it("of when it sleeps is told to the host first, and not shown if the host refuses", async () => {
    await create({});
    const failed = { kind: "bad-request", message: "idleTimeoutSeconds: too short" };
    await script(vmId, { op: "idle", act: "fail", status: 400, failure: failed });
    expect(await vm().update(account.id, { idleTimeoutSeconds: 1 })).toEqual({ ok: false, failure: failed });
    expect(must(await vm().read(account.id)).idleTimeoutSeconds).toBeNull();
    must(await vm().update(account.id, { idleTimeoutSeconds: 60 }));
    expect(must(await vm().read(account.id)).idleTimeoutSeconds).toBe(60);
    const { calls } = await seen(vmId);
    expect(JSON.parse(calls.at(-1)?.body ?? "")).toEqual({ idleTimeoutSeconds: 60, activityThresholdBytes: null });
  });

  it("made at the same time as others is not lost among them", async () => {
    await create({});
    await Promise.all(["a", "b", "c"].map((key) => vm().update(account.id, { metadata: { [key]: "1" } })));
    expect(must(await vm().read(account.id)).metadata).toEqual({ a: "1", b: "1", c: "1" });
  });

  it("by another account changes nothing", async () => {
    await create({ name: "mine" });
    expect(refusal(await vm().update(freshName(), { name: "theirs" }))).toBe("vm-not-found");
    expect(refusal(await vm().firewall(freshName()))).toBe("vm-not-found");
    expect(refusal(await vm().untilAtRest(freshName()))).toBe("vm-not-found");
    expect(must(await vm().read(account.id)).name).toBe("mine");
  });
});

it("files that come with a VM are the host's to write and are not kept once it has", async () => {
  const files = [{ path: "/x", content: "eA==", executable: false }];
  await create({ files });
  expect(JSON.parse((await seen(vmId)).calls[0]?.body ?? "")).toMatchObject({ files });
  const spec = await runInDurableObject(vm(), (_object, state) => state.storage.sql.exec("SELECT spec FROM vm").one().spec);
  expect(JSON.parse(String(spec)).files).toEqual([]);
});

describe("waiting for a VM to come to rest", () => {
  it("ends with its stop, its sleep, and its deletion", async () => {
    for (const [command, outcome] of [
      ["stop", "stopped"],
      ["suspend", "suspended"],
      ["remove", "vm-not-found"],
    ] as const) {
      vmId = freshVmId();
      await create({});
      const waiting = vm().untilAtRest(account.id);
      must(await vm()[command](account.id));
      const answer = await waiting;
      expect(answer.ok ? answer.value.state : answer.failure.kind).toBe(outcome);
    }
  });

  it("is given up after a while, with the state as it is", async () => {
    await create({});
    await setSettings(vm(), { VM_AWAIT_STEP_MS: 1 });
    expect(must(await vm().untilAtRest(account.id)).state).toBe("running");
  });
});

describe("slugs", () => {
  const wish = (slug: string, reassign = false) => ({ slug, reassign });

  it("belong to one VM each, even when two are made at once, and the one without makes no machine", async () => {
    const ids = [freshVmId(), freshVmId()];
    const made = await Promise.all(
      ids.map((id) => bindings.VM.getByName(id).create(account.id, id, { ...PLAIN_VM, slug: wish("only") })),
    );
    const [winner, loser] = made[0]?.ok ? ids : ids.toReversed();
    expect(made.filter(({ ok }) => ok)).toHaveLength(1);
    expect(made.filter((one) => !one.ok && one.failure.kind === "conflict")).toHaveLength(1);
    expect(must(await account.object.findSlug("only"))).toBe(winner);
    expect((await asked(loser ?? "")).filter((op) => op === "create")).toEqual([]);
    expect((await listed()).map(({ id, slug }) => [id, slug])).toEqual([[winner, "only"]]);
  });

  it("are taken over only when asked, given up by whoever takes another, and free after a deletion", async () => {
    await create({ slug: wish("one") });
    const other = freshVmId();
    must(await bindings.VM.getByName(other).create(account.id, other, PLAIN_VM));
    expect(refusal(await account.object.setSlug(other, wish("one")))).toBe("conflict");
    must(await account.object.setSlug(other, wish("two")));
    must(await account.object.setSlug(other, wish("one", true)));
    expect(must(await account.object.slugOf(vmId))).toBeNull();
    expect(refusal(await account.object.findSlug("two"))).toBe("vm-not-found");
    must(await bindings.VM.getByName(other).remove(account.id));
    expect(refusal(await account.object.findSlug("one"))).toBe("vm-not-found");
  });

  it("are refused to a VM that the account does not have", async () => {
    expect(refusal(await account.object.setSlug(freshVmId(), wish("mine")))).toBe("vm-not-found");
    await create({ slug: wish("gone") });
    must(await vm().remove(account.id));
    expect(refusal(await account.object.setSlug(vmId, wish("back")))).toBe("vm-not-found");
    expect(refusal(await account.object.setSlug(vmId, null))).toBe("vm-not-found");
  });
});

describe("a listing's filter", () => {
  it("binds whatever is asked for: nothing of it is ever SQL or a JSON path", async () => {
    await create({ metadata: { 'a"b': "x'y", "%": "_" }, name: "Émile's" });
    const list = async (filter: object) => {
      const answer = must(await account.object.listVms({ offset: 0, limit: 10, includeDeleted: false, ...filter }));
      return [answer.vms.length, answer.total];
    };
    expect(await list({ metadata: { 'a"b': "x'y", "%": "_" } })).toEqual([1, 1]);
    expect(await list({ search: "'s" })).toEqual([1, 1]);
    for (const filter of [
      { metadata: { "a%": "x'y" } },
      { metadata: { "' OR 1=1 --": "" } },
      { slug: "' OR '1'='1" },
      { snapshotId: "%" },
      { search: "%" },
    ]) {
      expect(await list(filter)).toEqual([0, 0]);
    }
  });
});
