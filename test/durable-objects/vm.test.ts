import { abortAllDurableObjects, reset, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { createLocalJWKSet, type JSONWebKeySet } from "jose";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Vm } from "../../durable-objects/vm.ts";
import { PLAIN_VM } from "../../durable-objects/vm-spec.ts";
import { VM_NOT_FOUND_MESSAGE } from "../../protocol/messages.ts";
import { checkTicket, hostAudience } from "../../protocol/ticket.ts";
import { forgetSigner } from "../../worker/tickets/signer.ts";
import { bindings, dumpStorage, freshName, freshVmId, localRegion, must, newAccount, refusal, setSettings } from "./objects.ts";
import { asked, type HostScript, release, script, scriptedHostUrl, seen, setMachine, untilHeld } from "./scripted-host.ts";
import { joinHost, until } from "./verifiers.ts";

const SPEC = { ...PLAIN_VM, name: "demo", users: [{ name: "developer" }], groups: [] };

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

// A new stub each time: a crash breaks those that were made before it.
const vm = () => bindings.VM.getByName(vmId);
const create = () => vm().create(account.id, vmId, SPEC);
const indexed = async () => {
  const object = bindings.ACCOUNT.getByName(account.id);
  const { vms } = must(await object.listVms({ offset: 0, limit: 10, includeDeleted: true }));
  return vms.map((one) => one.state);
};
const placed = async () => must(await (await localRegion()).listHosts()).map((one) => one.vmCount);
const drop = (op: HostScript["op"]): HostScript => ({ op, act: "drop" });
const settledAlarm = async () => {
  while (await runDurableObjectAlarm(vm())) {
    // An alarm that sets itself again has not seen the end yet.
    if ((await runInDurableObject(vm(), (_object, state) => state.storage.getAlarm())) === null) return;
  }
};

describe("a VM", () => {
  it("is created on its host with its users, and then runs, is placed and is listed", async () => {
    const record = must(await create());
    expect(record).toMatchObject({ id: vmId, accountId: account.id, name: "demo", state: "running", hostId: host.id });
    const { calls } = await seen(vmId);
    expect(calls.map((call) => call.op)).toEqual(["create"]);
    expect(JSON.parse(calls[0]?.body ?? "")).toMatchObject({ users: [{ name: "developer" }], groups: [] });
    expect(must(await vm().placement())).toMatchObject({
      vmId,
      accountId: account.id,
      region: "local",
      hostId: host.id,
      hostUrl: scriptedHostUrl(),
      ports: [],
    });
    expect(await indexed()).toEqual(["running"]);
    expect(await runDurableObjectAlarm(vm())).toBe(false);
  });

  it("is asked for with a ticket of its account, for that host and that operation only", async () => {
    must(await create());
    must(await vm().stop(account.id));
    const keys = await bindings.SIGNING_KEYS.getByName("ticket-keys").jwks();
    const getKey = createLocalJWKSet(keys as unknown as JSONWebKeySet);
    const { calls } = await seen(vmId);
    for (const call of calls) {
      const expected = { getKey, issuer: "postern", audience: hostAudience(host.id), now: Date.now() };
      const checked = await checkTicket(call.ticket, expected);
      if (!checked.ok) throw new Error(checked.reason);
      expect(checked.claims).toMatchObject({
        aud: [hostAudience(host.id)],
        sub: `account:${account.id}`,
        vm: vmId,
        user: null,
        op: call.op,
        azp: "edge",
        epoch: 1,
      });
    }
    expect(await dumpStorage(vm())).not.toContain(calls[0]?.ticket);
  });

  it("of another account, of nobody and one that is deleted do not exist, in the same bytes", async () => {
    must(await create());
    const deleted = bindings.VM.getByName(freshVmId());
    must(await deleted.create(account.id, deleted.name ?? "", SPEC));
    must(await deleted.remove(account.id));
    const answers: unknown[] = [];
    for (const [object, caller] of [
      [vm(), freshName()],
      [bindings.VM.getByName(freshVmId()), account.id],
      [deleted, account.id],
    ] as const) {
      answers.push(await object.read(caller), await object.start(caller), await object.stop(caller));
      answers.push(await object.suspend(caller), await object.remove(caller));
    }
    answers.push(await deleted.placement(), await deleted.read(null), await bindings.VM.getByName(freshVmId()).placement());
    expect(new Set(answers.map((answer) => JSON.stringify(answer)))).toEqual(
      new Set([JSON.stringify({ ok: false, failure: { kind: "vm-not-found", message: VM_NOT_FOUND_MESSAGE } })]),
    );
    expect(await asked(vmId)).toEqual(["create"]);
  });

  it("that was never made leaves no storage behind when asked about", async () => {
    const object = bindings.VM.getByName(freshVmId());
    await object.read(null);
    await object.observe(host.id, "running", Date.now());
    expect(await dumpStorage(object)).toBe("[]");
  });

  it("is not created twice, nor again under the id of a deleted one", async () => {
    must(await create());
    expect(refusal(await create())).toBe("conflict");
    must(await vm().remove(account.id));
    expect(refusal(await create())).toBe("conflict");
  });
});

describe("a create", () => {
  it("without a host with room is refused and leaves nothing listed or placed", async () => {
    host.feed.socket.close(1000, "bye");
    await until(async () => !must(await (await localRegion()).listHosts())[0]?.connected, "the host did not leave");
    expect(refusal(await create())).toBe("no-capacity");
    expect(await indexed()).toEqual([]);
    expect(refusal(await vm().read(account.id))).toBe("vm-not-found");
  });

  it("beyond the quota is refused, gives its place back and never reaches the host", async () => {
    await setSettings(account.object, { MAX_VMS_PER_ACCOUNT: 1 });
    must(await create());
    vmId = freshVmId();
    expect(refusal(await create())).toBe("vm-quota-exceeded");
    expect(await placed()).toEqual([1]);
    expect((await asked(vmId)).filter((op) => op === "create")).toEqual([]);
    expect(await indexed()).toEqual(["running"]);
  });

  it("passes on what the host refused, and undoes the machine", async () => {
    const failed = { kind: "linux-user-duplicate", message: "The user developer is named twice." };
    await script(vmId, { op: "create", act: "fail", status: 400, failure: failed });
    expect(await create()).toEqual({ ok: false, failure: failed });
    expect(await asked(vmId)).toEqual(["create", "delete"]);
    expect(await placed()).toEqual([0]);
    expect(await indexed()).toEqual(["deleted"]);
    expect(await runDurableObjectAlarm(vm())).toBe(false);
  });

  it("says host-unavailable when the host breaks off, talks nonsense or sends the ticket elsewhere", async () => {
    for (const act of ["drop", "obey-and-drop", "garble", "redirect"] as const) {
      vmId = freshVmId();
      await script(vmId, { op: "create", act });
      expect([act, refusal(await create())]).toEqual([act, "host-unavailable"]);
      expect(await seen(vmId)).toMatchObject({ state: "missing" });
      expect(refusal(await vm().read(account.id))).toBe("vm-not-found");
    }
    expect(await placed()).toEqual([0]);
    expect((await seen("elsewhere")).calls).toEqual([]);
  });

  it("answers a refused ticket as host-unavailable, never as the caller's own 401", async () => {
    await script(vmId, { op: "create", act: "fail", status: 401, failure: { kind: "ticket-refused", message: "no" } });
    expect(refusal(await create())).toBe("host-unavailable");
  });

  it("reads the epoch again, once, when the host says that it is stale", async () => {
    const stale = { kind: "stale-epoch", message: "stale" };
    await script(vmId, { op: "create", act: "fail", status: 401, failure: stale });
    must(await create());
    expect(await asked(vmId)).toEqual(["create", "create"]);
    vmId = freshVmId();
    await script(vmId, { op: "create", act: "fail", status: 401, failure: stale });
    await script(vmId, { op: "create", act: "fail", status: 401, failure: stale });
    expect(refusal(await create())).toBe("host-unavailable");
  });

  it("that cannot be undone at once is undone by alarm", async () => {
    await script(vmId, { op: "create", act: "obey-and-drop" });
    await script(vmId, drop("delete"));
    expect(refusal(await create())).toBe("host-unavailable");
    expect(await seen(vmId)).toMatchObject({ state: "running" });
    expect(refusal(await vm().read(account.id))).toBe("vm-not-found");
    await settledAlarm();
    expect(await seen(vmId)).toMatchObject({ state: "missing" });
    expect(await placed()).toEqual([0]);
  });

  it("for an account that does not exist reaches no host", async () => {
    expect((await vm().create(freshName(), vmId, SPEC)).ok).toBe(false);
    expect((await asked(vmId)).filter((op) => op === "create")).toEqual([]);
    expect(await placed()).toEqual([0]);
  });
});

describe("a crash in the middle of a create", () => {
  /** Crashes every object while another holds the create up there. */
  async function crashWhile(holder: DurableObjectStub<Vm>, creating: () => Promise<unknown>, reached: () => Promise<boolean>) {
    const hold = runInDurableObject(holder, (_object, state) => state.blockConcurrencyWhile(() => new Promise(() => {})));
    const held = hold.catch(() => "crashed");
    const broken = creating().catch(() => "crashed");
    await until(reached, "the create did not get so far");
    await abortAllDurableObjects();
    expect(await broken).toBe("crashed");
    await held;
  }

  it("before it was placed leaves nothing", async () => {
    const region = (await localRegion()) as unknown as DurableObjectStub<Vm>;
    await crashWhile(region, create, async () => (await dumpStorage(vm())).includes("create"));
    await settledAlarm();
    expect(refusal(await vm().read(account.id))).toBe("vm-not-found");
    expect(await indexed()).toEqual([]);
    expect(await asked(vmId)).toEqual([]);
  });

  it("between the placement and the call to the host is undone by alarm", async () => {
    const index = bindings.ACCOUNT.getByName(account.id) as unknown as DurableObjectStub<Vm>;
    await crashWhile(index, create, async () => (await dumpStorage(vm())).includes(host.id));
    await settledAlarm();
    expect(refusal(await vm().read(account.id))).toBe("vm-not-found");
    expect(await asked(vmId)).toEqual(["read", "delete"]);
    expect(await placed()).toEqual([0]);
  });

  it("while the host works is completed by alarm once the machine runs", async () => {
    await script(vmId, { op: "create", act: "hold" });
    const broken = create().catch(() => "crashed");
    await untilHeld(vmId);
    await abortAllDurableObjects();
    expect(await broken).toBe("crashed");
    await release(vmId);
    await until(async () => (await seen(vmId)).state === "running", "the machine does not run");
    await settledAlarm();
    expect(must(await vm().read(account.id)).state).toBe("running");
    expect(await indexed()).toEqual(["running"]);
    expect(await placed()).toEqual([1]);
  });

  it("is looked into again later while the host does not answer", async () => {
    await script(vmId, { op: "create", act: "hold" });
    const broken = create().catch(() => "crashed");
    await untilHeld(vmId);
    await abortAllDurableObjects();
    await broken;
    await script(vmId, drop("read"));
    await runDurableObjectAlarm(vm());
    expect(must(await vm().read(account.id)).state).toBe("starting");
    await release(vmId);
    await until(async () => (await seen(vmId)).state === "running", "the machine does not run");
    await settledAlarm();
    expect(must(await vm().read(account.id)).state).toBe("running");
  });
});

describe("an operation", () => {
  it("changes the state as the host says, and the index with it", async () => {
    must(await create());
    expect(must(await vm().suspend(account.id)).state).toBe("suspended");
    expect(await indexed()).toEqual(["suspended"]);
    expect(must(await vm().start(account.id)).state).toBe("running");
    expect(must(await vm().stop(account.id)).state).toBe("stopped");
    expect(refusal(await vm().suspend(account.id))).toBe("vm-not-running");
    expect(await indexed()).toEqual(["stopped"]);
    expect(await asked(vmId)).toEqual(["create", "suspend", "start", "stop"]);
  });

  it("asked for many times at once reaches the host once", async () => {
    must(await create());
    await script(vmId, { op: "stop", act: "hold" });
    const stops = Array.from({ length: 5 }, () => vm().stop(account.id));
    await untilHeld(vmId);
    await release(vmId);
    const states = (await Promise.all(stops)).map((result) => must(result).state);
    expect(new Set(states)).toEqual(new Set(["stopped"]));
    expect(await asked(vmId)).toEqual(["create", "stop"]);
  });

  it("waits for the one before it, and the last one asked for wins", async () => {
    must(await create());
    await script(vmId, { op: "stop", act: "hold" });
    const first = vm().stop(account.id);
    await untilHeld(vmId);
    const rest = [vm().start(account.id), vm().stop(account.id)];
    await release(vmId);
    await Promise.all([first, ...rest]);
    expect(await asked(vmId)).toEqual(["create", "stop", "start", "stop"]);
    expect(must(await vm().read(account.id)).state).toBe("stopped");
  });

  it("is refused as busy when too many wait", async () => {
    must(await create());
    await setSettings(vm(), { VM_QUEUE_MAX: 1 });
    await script(vmId, { op: "stop", act: "hold" });
    const first = vm().stop(account.id);
    await untilHeld(vmId);
    expect(refusal(await vm().start(account.id))).toBe("vm-busy");
    await release(vmId);
    must(await first);
  });

  it("shows what is under way while it lasts", async () => {
    must(await create());
    await script(vmId, { op: "suspend", act: "hold" });
    const suspending = vm().suspend(account.id);
    await untilHeld(vmId);
    expect(must(await vm().read(account.id)).state).toBe("suspending");
    await release(vmId);
    must(await suspending);
  });

  it("that the host refuses is passed on, and the state is what the host says then", async () => {
    must(await create());
    await setMachine(vmId, "suspended");
    const refused = { kind: "vm-start-failed", message: "The machine ended while it started." };
    await script(vmId, { op: "start", act: "fail", failure: refused });
    expect(await vm().start(account.id)).toEqual({ ok: false, failure: refused });
    expect(must(await vm().read(account.id)).state).toBe("suspended");
  });

  it("that the host did not answer is looked into by alarm", async () => {
    must(await create());
    await script(vmId, { op: "stop", act: "obey-and-drop" });
    expect(refusal(await vm().stop(account.id))).toBe("host-unavailable");
    expect(must(await vm().read(account.id)).state).toBe("running");
    await settledAlarm();
    expect(must(await vm().read(account.id)).state).toBe("stopped");
    expect(await indexed()).toEqual(["stopped"]);
  });

  it("that a crash cut short is looked into by the next one, without waiting for the alarm", async () => {
    must(await create());
    await script(vmId, { op: "suspend", act: "hold" });
    const broken = vm()
      .suspend(account.id)
      .catch(() => "crashed");
    await untilHeld(vmId);
    await abortAllDurableObjects();
    expect(await broken).toBe("crashed");
    await release(vmId);
    await until(async () => (await seen(vmId)).state === "suspended", "the machine is not suspended");
    expect(must(await vm().start(account.id)).state).toBe("running");
    expect(await asked(vmId)).toEqual(["create", "suspend", "read", "start"]);
  });

  it("finds the VM lost when its machine is missing on the host, and it can only be deleted", async () => {
    must(await create());
    await setMachine(vmId, "missing");
    await script(vmId, { op: "start", act: "fail", status: 404, failure: { kind: "vm-not-found", message: "no machine" } });
    expect((await vm().start(account.id)).ok).toBe(false);
    expect(must(await vm().read(account.id)).state).toBe("lost");
    expect(refusal(await vm().start(account.id))).toBe("vm-not-running");
    must(await vm().remove(account.id));
    expect(await indexed()).toEqual(["deleted"]);
  });

  it("is answered as the host says now even if its clock went back, but not over newer news", async () => {
    must(await create());
    const ahead = Date.now() + 3_600_000;
    await vm().observe(host.id, "running", ahead);
    expect(must(await vm().suspend(account.id)).state).toBe("suspended");
    await script(vmId, { op: "start", act: "hold" });
    const starting = vm().start(account.id);
    await untilHeld(vmId);
    await vm().observe(host.id, "stopped", ahead);
    await release(vmId);
    expect(must(await starting).state).toBe("stopped");
  });

  it("reaches a host that came back at another address", async () => {
    must(await create());
    await joinHost({ id: host.id, url: `${scriptedHostUrl()}/` });
    must(await vm().stop(account.id));
    expect(must(await vm().placement()).hostUrl).toBe(scriptedHostUrl());
  });
});

describe("a delete", () => {
  it("gives the place back and answers with a deleted record", async () => {
    must(await create());
    expect(must(await vm().remove(account.id)).state).toBe("deleted");
    expect(await seen(vmId)).toMatchObject({ state: "missing" });
    expect(await placed()).toEqual([0]);
    expect(await indexed()).toEqual(["deleted"]);
    expect(await runDurableObjectAlarm(vm())).toBe(false);
  });

  it("that the host did not answer is said to be so, hides the VM from new work, and is carried out by alarm", async () => {
    must(await create());
    await script(vmId, drop("delete"));
    expect(refusal(await vm().remove(account.id))).toBe("host-unavailable");
    expect(refusal(await vm().placement())).toBe("vm-not-found");
    await settledAlarm();
    expect(await seen(vmId)).toMatchObject({ state: "missing" });
    expect(await placed()).toEqual([0]);
    expect(await indexed()).toEqual(["deleted"]);
  });

  it("may be asked for again while the first is still owed", async () => {
    must(await create());
    await script(vmId, drop("delete"));
    expect(refusal(await vm().remove(account.id))).toBe("host-unavailable");
    expect(must(await vm().remove(account.id)).state).toBe("deleted");
  });

  it("of a machine that the host does not have is done", async () => {
    must(await create());
    await script(vmId, { op: "delete", act: "fail", status: 404, failure: { kind: "vm-not-found", message: "no machine" } });
    expect(must(await vm().remove(account.id)).state).toBe("deleted");
  });
});

describe("what a host tells about a VM", () => {
  const tell = (state: "running" | "suspended" | "missing", at: number, from = host.id) => vm().observe(from, state, at);
  const shown = async () => must(await vm().read(account.id)).state;

  /** Makes a VM that its host says is suspended while its account cannot be told. */
  async function suspendUnheard(): Promise<void> {
    must(await create());
    await runInDurableObject(account.object, (_object, state) => state.storage.sql.exec("ALTER TABLE vms RENAME TO vms_broken"));
    await tell("suspended", Date.now() + 60_000);
    await runInDurableObject(account.object, (_object, state) => state.storage.sql.exec("ALTER TABLE vms_broken RENAME TO vms"));
  }

  it("is taken from the newest message, whatever order they come in", async () => {
    must(await create());
    const later = Date.now() + 60_000;
    await tell("suspended", later);
    await tell("running", later - 1);
    await tell("running", later);
    expect(await shown()).toBe("suspended");
    expect(await indexed()).toEqual(["suspended"]);
  });

  it("is not believed from any host but its own", async () => {
    must(await create());
    await tell("missing", Date.now() + 60_000, freshName());
    expect(await shown()).toBe("running");
  });

  it("makes it lost when the machine is missing, and not lost when it is back", async () => {
    must(await create());
    await tell("missing", Date.now() + 60_000);
    expect(await shown()).toBe("lost");
    await tell("running", Date.now() + 120_000);
    expect(await shown()).toBe("running");
  });

  it("never brings a deleted VM back: its machine is deleted again", async () => {
    must(await create());
    must(await vm().remove(account.id));
    await setMachine(vmId, "running");
    await tell("running", Date.now() + 60_000);
    expect(refusal(await vm().read(account.id))).toBe("vm-not-found");
    await settledAlarm();
    await until(async () => (await seen(vmId)).state === "missing", "the machine is still there");
  });

  it("reaches the index by alarm when the account failed", async () => {
    await suspendUnheard();
    await settledAlarm();
    expect(await indexed()).toEqual(["suspended"]);
  });

  it("is in the index by the time that a repeated suspend answers, though the account had not heard of the first", async () => {
    await suspendUnheard();
    expect(await indexed()).toEqual(["running"]);
    must(await vm().suspend(account.id));
    expect(await indexed()).toEqual(["suspended"]);
  });

  it("is in the index as a repeated creation answers it, though the account had not heard of that", async () => {
    await suspendUnheard();
    expect(must(await vm().created(account.id)).state).toBe("suspended");
    expect(await indexed()).toEqual(["suspended"]);
  });
});
