import { abortAllDurableObjects, reset, runDurableObjectAlarm } from "cloudflare:test";
import { createLocalJWKSet, type JSONWebKeySet } from "jose";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PLAIN_VM } from "../../durable-objects/vm-spec.ts";
import { checkTicket, hostAudience } from "../../protocol/ticket.ts";
import { forgetSigner } from "../../worker/tickets/signer.ts";
import { bindings, freshVmId, localRegion, must, newAccount, refusal, setSettings } from "./objects.ts";
import { asked, release, script, scriptedHostUrl, seen, untilHeld } from "./scripted-host.ts";
import { joinHost, until } from "./verifiers.ts";

let account: Awaited<ReturnType<typeof newAccount>>;
let host: Awaited<ReturnType<typeof joinHost>>;
let vmId: string;
let snapshotId: string;

beforeEach(async () => {
  account = await newAccount();
  host = await joinHost({ url: scriptedHostUrl() });
  [vmId, snapshotId] = [freshVmId(), freshVmId()];
  must(await bindings.VM.getByName(vmId).create(account.id, vmId, PLAIN_VM));
});

afterEach(async () => {
  await reset();
  forgetSigner();
});

// A new stub each time: a crash breaks those that were made before it.
const snapshot = (id = snapshotId) => bindings.SNAPSHOT.getByName(id);
const take = (id = snapshotId, slug: string | null = null) =>
  snapshot(id).take(account.id, id, { sourceVmId: vmId, name: "golden", slug });
const listed = async () => {
  const states = ["building", "ready", "failed", "deleted"] as const;
  const query = { offset: 0, limit: 10, states, sourceVmId: null };
  return must(await bindings.ACCOUNT.getByName(account.id).listSnapshots(query));
};
const states = async () => (await listed()).snapshots.map((one) => one.state);
const settleAlarm = () => until(async () => !(await runDurableObjectAlarm(snapshot())), "the alarm comes to rest");

describe("a snapshot", () => {
  it("is taken by the VM's host, then ready and listed", async () => {
    expect(must(await take())).toMatchObject({ id: snapshotId, sourceVmId: vmId, name: "golden", state: "ready" });
    const { calls } = await seen(vmId);
    expect(calls.map((call) => call.op)).toEqual(["create", "snapshots"]);
    expect(JSON.parse(calls[1]?.body ?? "")).toEqual({ snapshotId });
    expect(await listed()).toMatchObject({ total: 1, counts: { ready: 1, building: 0 }, snapshots: [{ id: snapshotId }] });
    expect(await runDurableObjectAlarm(snapshot())).toBe(false);
  });

  it("is asked for with a ticket for snapshots of that VM on that host, and nothing else", async () => {
    must(await take());
    must(await snapshot().remove(account.id));
    const keys = await bindings.SIGNING_KEYS.getByName("ticket-keys").jwks();
    const getKey = createLocalJWKSet(keys as unknown as JSONWebKeySet);
    for (const call of (await seen(vmId)).calls.slice(1)) {
      const expected = { getKey, issuer: "postern", audience: hostAudience(host.id), now: Date.now() };
      const checked = await checkTicket(call.ticket, expected);
      if (!checked.ok) throw new Error(checked.reason);
      expect(checked.claims).toMatchObject({ sub: `account:${account.id}`, vm: vmId, op: "snapshot", user: null, azp: "edge" });
    }
  });

  it("is shown as building until the host has captured the disk, and cannot be booted or deleted until then", async () => {
    await script(vmId, { op: "snapshots", act: "hold" });
    const taking = take();
    await untilHeld(vmId);
    expect(await states()).toEqual(["building"]);
    expect(refusal(await snapshot().boot(account.id))).toBe("snapshot-not-ready");
    expect(refusal(await snapshot().remove(account.id))).toBe("snapshot-not-ready");
    expect(refusal(await take())).toBe("conflict");
    await release(vmId);
    expect(must(await taking).state).toBe("ready");
  });

  it("places what boots from it on the host that keeps it, however full others are", async () => {
    must(await take());
    await joinHost({ url: scriptedHostUrl() });
    for (let made = 0; made < 3; made += 1) {
      const clone = freshVmId();
      const record = must(await bindings.VM.getByName(clone).create(account.id, clone, { ...PLAIN_VM, snapshotId }));
      expect(record).toMatchObject({ hostId: host.id, snapshotId });
      expect(JSON.parse((await seen(clone)).calls[0]?.body ?? "")).toMatchObject({ snapshotId });
    }
    expect((await listed()).snapshots[0]?.lastUsedAt).toEqual(expect.any(Number));
  });

  it("stays when its VM is deleted, and is deleted on the host without it", async () => {
    must(await take());
    must(await bindings.VM.getByName(vmId).remove(account.id));
    expect(must(await snapshot().boot(account.id))).toEqual({ region: "local", hostId: host.id });
    must(await snapshot().remove(account.id));
    expect((await asked(vmId)).at(-1)).toBe("delete-snapshots");
    expect(await states()).toEqual(["deleted"]);
  });

  it("can be renamed, and keeps what was not named", async () => {
    must(await take(snapshotId, "base"));
    expect(must(await snapshot().change(account.id, { name: "other" }))).toMatchObject({ name: "other", slug: "base" });
    expect(must(await snapshot().change(account.id, { slug: null }))).toMatchObject({ name: "other", slug: null });
    expect((await listed()).snapshots[0]).toMatchObject({ name: "other", slug: null });
  });
});

describe("a snapshot is refused", () => {
  it("of a VM that is another account's, deleted or unknown", async () => {
    const stranger = await newAccount();
    const wish = { sourceVmId: vmId, name: null, slug: null };
    expect(refusal(await snapshot().take(stranger.id, snapshotId, wish))).toBe("vm-not-found");
    expect(refusal(await snapshot().take(account.id, snapshotId, { ...wish, sourceVmId: freshVmId() }))).toBe("vm-not-found");
    must(await bindings.VM.getByName(vmId).remove(account.id));
    expect(refusal(await take())).toBe("vm-not-found");
    expect(await states()).toEqual([]);
    expect(await asked(vmId)).not.toContain("snapshots");
  });

  it("beyond the account's quota, and then no host is asked", async () => {
    await setSettings(bindings.ACCOUNT.getByName(account.id), { MAX_SNAPSHOTS_PER_ACCOUNT: 1 });
    must(await take());
    const second = freshVmId();
    expect(refusal(await take(second))).toBe("snapshot-quota-exceeded");
    expect((await asked(vmId)).filter((op) => op === "snapshots")).toHaveLength(1);
    expect(refusal(await snapshot(second).read(account.id))).toBe("snapshot-not-found");
    must(await snapshot().remove(account.id));
    must(await take(freshVmId()));
  });

  it("with a slug that another has, until that one is deleted", async () => {
    must(await take(snapshotId, "base"));
    const second = freshVmId();
    expect(refusal(await take(second, "base"))).toBe("conflict");
    expect(refusal(await take(second, "base"))).toBe("conflict");
    const third = freshVmId();
    must(await take(third));
    expect(refusal(await snapshot(third).change(account.id, { slug: "base" }))).toBe("conflict");
    expect(must(await snapshot(third).read(account.id)).slug).toBeNull();
    must(await snapshot().remove(account.id));
    must(await snapshot(third).change(account.id, { slug: "base" }));
    expect(must(await bindings.ACCOUNT.getByName(account.id).findSnapshotSlug("base"))).toBe(third);
  });

  it("to another account, for anything, as if it were not there", async () => {
    must(await take(snapshotId, "base"));
    const stranger = await newAccount();
    for (const call of [
      () => snapshot().read(stranger.id),
      () => snapshot().change(stranger.id, { name: "mine" }),
      () => snapshot().remove(stranger.id),
      () => snapshot().boot(stranger.id),
      () => bindings.ACCOUNT.getByName(stranger.id).findSnapshotSlug("base"),
    ]) {
      expect(refusal<unknown>(await call())).toBe("snapshot-not-found");
    }
    const clone = freshVmId();
    const made = await bindings.VM.getByName(clone).create(stranger.id, clone, { ...PLAIN_VM, snapshotId });
    expect(refusal(made)).toBe("snapshot-not-found");
    expect(await asked(clone)).toEqual([]);
    expect(must(await snapshot().read(account.id)).name).toBe("golden");
  });

  it("as the beginning of a VM once it is deleted, and while its host is away", async () => {
    must(await take());
    host.feed.socket.close();
    await until(async () => must(await (await localRegion()).listHosts()).every((one) => !one.connected), "the host is gone");
    await joinHost({ url: scriptedHostUrl() });
    const clone = freshVmId();
    const away = await bindings.VM.getByName(clone).create(account.id, clone, { ...PLAIN_VM, snapshotId });
    expect(refusal(away)).toBe("host-unavailable");
    must(await snapshot().remove(account.id));
    const late = freshVmId();
    const gone = await bindings.VM.getByName(late).create(account.id, late, { ...PLAIN_VM, snapshotId });
    expect(refusal(gone)).toBe("snapshot-not-found");
  });
});

describe("when the host fails", () => {
  it.each(["drop", "obey-and-drop", "garble"] as const)(
    "in the middle (%s), the snapshot has failed and is cleared away",
    async (act) => {
      await script(vmId, { op: "snapshots", act });
      expect(refusal(await take())).toBe("host-unavailable");
      expect(must(await snapshot().read(account.id))).toMatchObject({ state: "failed", failureReason: expect.any(String) });
      expect((await asked(vmId)).slice(1)).toEqual(["snapshots", "delete-snapshots"]);
      expect(refusal(await snapshot().boot(account.id))).toBe("snapshot-not-ready");
      expect(await runDurableObjectAlarm(snapshot())).toBe(false);
    },
  );

  it("to clear away, the alarm tries again until it has", async () => {
    await script(vmId, { op: "snapshots", act: "drop" });
    await script(vmId, { op: "delete-snapshots", act: "drop" });
    await script(vmId, { op: "delete-snapshots", act: "drop" });
    await take();
    await settleAlarm();
    expect((await asked(vmId)).filter((op) => op === "delete-snapshots")).toHaveLength(3);
    expect(await states()).toEqual(["failed"]);
  });

  it("to delete, the snapshot is gone for everybody all the same, and the alarm sees to the disk", async () => {
    must(await take());
    await script(vmId, { op: "delete-snapshots", act: "drop" });
    must(await snapshot().remove(account.id));
    expect(refusal(await snapshot().read(account.id))).toBe("snapshot-not-found");
    await settleAlarm();
    expect((await asked(vmId)).filter((op) => op === "delete-snapshots")).toHaveLength(2);
  });
});

async function crashWhileCaptured(): Promise<void> {
  await script(vmId, { op: "snapshots", act: "hold" });
  const taking = take().catch(() => null);
  await untilHeld(vmId);
  await abortAllDurableObjects();
  await taking;
  host = await joinHost({ id: host.id, url: scriptedHostUrl() });
}

it("a crash while the disk is captured leaves a failed snapshot and nothing on the host", async () => {
  await crashWhileCaptured();
  await settleAlarm();
  expect(must(await snapshot().read(account.id)).state).toBe("failed");
  expect((await asked(vmId)).at(-1)).toBe("delete-snapshots");
  expect(await states()).toEqual(["failed"]);
});

it("whose taking a crash cut short is taken anew when it is asked for again, without waiting for the alarm", async () => {
  await crashWhileCaptured();
  expect(must(await snapshot().taken(account.id)).state).toBe("ready");
  await settleAlarm();
  expect((await asked(vmId)).filter((op) => op.endsWith("snapshots"))).toEqual(["snapshots", "snapshots"]);
  expect(await states()).toEqual(["ready"]);
});
