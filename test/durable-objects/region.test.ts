import { abortAllDurableObjects, evictDurableObject, reset } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FEED_KEY_HEADER, FEED_REGION_HEADER } from "../../durable-objects/contract.ts";
import { DEFAULT_SETTINGS } from "../../durable-objects/settings.ts";
import { identitySubject } from "../../protocol/subjects.ts";
import {
  dumpStorage,
  freshName,
  freshVmId,
  localRegion,
  must,
  refusal,
  runSql,
  secretHashOf,
  setClock,
  setSettings,
} from "./objects.ts";
import { hostHello, joinHost, newServiceKey, openFeed, until, upgrade } from "./verifiers.ts";

const floor = (epoch = 2, sub = identitySubject(freshName())) => ({ sub, epoch, at: Date.now() });
const forwarderHello = (id = freshName()) => ({ type: "hello", role: "forwarder", id, version: "1" });

let keyId: string;

beforeEach(async () => {
  ({ keyId } = await newServiceKey());
});

afterEach(async () => {
  await reset();
});

describe("a service key", () => {
  it("resolves to its region until it is revoked; then, and if unknown, it is not valid", async () => {
    const region = await localRegion();
    const key = await newServiceKey();
    const hash = await secretHashOf(key.serviceKey);
    expect(must(await region.checkServiceKey(hash))).toEqual({ region: "local", keyId: key.keyId });
    must(await region.revokeServiceKey(key.keyId));
    const revoked = await region.checkServiceKey(hash);
    expect(refusal(revoked)).toBe("credential-invalid");
    expect(await region.checkServiceKey("0".repeat(64))).toEqual(revoked);
    expect(refusal(await region.revokeServiceKey(key.keyId))).toBe("token-not-found");
    expect(refusal(await region.revokeServiceKey("nosuchkeynosuchk"))).toBe("token-not-found");
  });

  it("is stored as the hash of its secret and nothing else", async () => {
    const key = await newServiceKey();
    const stored = await dumpStorage(await localRegion());
    expect(stored).toContain(await secretHashOf(key.serviceKey));
    expect(stored).not.toContain(key.serviceKey.slice(20, 44));
    expect(stored).not.toContain(key.serviceKey.slice(44));
  });

  it("that is revoked closes its sockets and no others", async () => {
    const revoked = await joinHost({ keyId });
    const kept = await joinHost({ keyId: (await newServiceKey()).keyId });
    must(await (await localRegion()).revokeServiceKey(keyId));
    expect(await revoked.feed.next()).toMatchObject({ type: "refused" });
    expect(await revoked.feed.closed).toBe(4003);
    const hosts = must(await (await localRegion()).listHosts());
    expect(hosts.filter((host) => host.connected).map((host) => host.id)).toEqual([kept.id]);
  });
});

describe("the feed's upgrade", () => {
  it("is refused without a key, with an unknown or revoked one, or for another region", async () => {
    const revoked = await newServiceKey();
    must(await (await localRegion()).revokeServiceKey(revoked.keyId));
    for (const headers of [
      {},
      { [FEED_REGION_HEADER]: "local" },
      { [FEED_KEY_HEADER]: "nosuchkeynosuchk", [FEED_REGION_HEADER]: "local" },
      { [FEED_KEY_HEADER]: revoked.keyId, [FEED_REGION_HEADER]: "local" },
      { [FEED_KEY_HEADER]: keyId, [FEED_REGION_HEADER]: "elsewhere" },
      { [FEED_KEY_HEADER]: keyId },
    ]) {
      expect((await upgrade(headers)).status).toBe(403);
    }
  });

  it("is refused to a plain request", async () => {
    const response = await (await localRegion()).fetch("http://region/feed");
    expect(response.status).toBe(426);
  });
});

describe("the first frame", () => {
  it("that is no hello is refused and ends the socket", async () => {
    const good = hostHello(freshName());
    const bad: unknown[] = [
      "not json",
      "{}",
      { type: "vm-state", vm: freshVmId(), state: "running", at: 1 },
      { ...good, id: "SHORT" },
      { ...good, url: "no url" },
      { ...good, capacity: 0 },
      { ...good, role: "stranger" },
      JSON.stringify({ ...good, driver: "x".repeat(20_000) }),
    ];
    for (const frame of bad) {
      const feed = await openFeed(keyId);
      feed.send(frame);
      expect(await feed.next()).toMatchObject({ type: "refused" });
      expect(await feed.closed).toBe(4003);
    }
    expect(must(await (await localRegion()).listHosts())).toEqual([]);
  });

  it("is welcomed with the region, the issuer and every floor that is kept", async () => {
    const kept = floor();
    await (await localRegion()).deliverFloors([kept]);
    const { welcome } = await joinHost({ keyId });
    expect(welcome).toEqual({ type: "welcome", region: "local", issuer: "postern", floors: [kept] });
  });

  it("may come once only", async () => {
    const { id, feed } = await joinHost({ keyId });
    feed.send(hostHello(id));
    expect(await feed.next()).toMatchObject({ type: "refused" });
    expect(await feed.closed).toBe(4003);
  });

  it("of a forwarder lets it tell no states of VMs", async () => {
    const feed = await openFeed(keyId);
    feed.send(forwarderHello());
    expect(await feed.next()).toMatchObject({ type: "welcome" });
    feed.send({ type: "vm-state", vm: freshVmId(), state: "running", at: 1 });
    expect(await feed.closed).toBe(4003);
  });

  it("of a host that dials again replaces its older socket", async () => {
    const first = await joinHost({ keyId, url: "http://127.0.0.1:1" });
    await joinHost({ keyId, id: first.id, url: "http://127.0.0.1:2/" });
    expect(await first.feed.closed).toBe(4009);
    expect(must(await (await localRegion()).hostUrl(first.id))).toBe("http://127.0.0.1:2");
    expect(must(await (await localRegion()).listHosts())).toHaveLength(1);
  });
});

describe("floors", () => {
  it("reach every host and forwarder, and nobody who has not said hello", async () => {
    const silent = await openFeed(keyId);
    const host = await joinHost({ keyId });
    const forwarder = await openFeed(keyId);
    forwarder.send(forwarderHello());
    await forwarder.next();
    const raised = floor();
    await (await localRegion()).deliverFloors([raised]);
    expect(await host.feed.next()).toEqual({ type: "floor", floor: raised });
    expect(await forwarder.next()).toEqual({ type: "floor", floor: raised });
    silent.send(forwarderHello());
    expect(await silent.next()).toMatchObject({ type: "welcome", floors: [raised] });
  });

  it("only rise: an older or repeated one changes nothing that is kept", async () => {
    const sub = identitySubject(freshName());
    const region = await localRegion();
    await region.deliverFloors([floor(5, sub)]);
    await region.deliverFloors([floor(3, sub), floor(5, sub)]);
    expect(await runSql(region, "SELECT epoch FROM floors")).toEqual([{ epoch: 5 }]);
  });

  it("are kept for their time since they arrived, however late that was, and then dropped", async () => {
    const region = await localRegion();
    const now = Date.now();
    await setClock(region, now);
    const late = { ...floor(), at: now - 10 * DEFAULT_SETTINGS.FLOOR_KEEP_MS };
    await region.deliverFloors([late]);
    await setClock(region, now + DEFAULT_SETTINGS.FLOOR_KEEP_MS);
    expect((await joinHost({ keyId })).welcome).toMatchObject({ floors: [late] });
    await setClock(region, now + DEFAULT_SETTINGS.FLOOR_KEEP_MS + 1);
    expect((await joinHost({ keyId })).welcome).toMatchObject({ floors: [] });
    await region.deliverFloors([]);
    expect(await runSql(region, "SELECT * FROM floors")).toEqual([]);
  });

  it("are taken by a region to which nobody has ever dialled", async () => {
    await reset();
    await (await localRegion()).deliverFloors([floor()]);
    expect(await runSql(await localRegion(), "SELECT epoch FROM floors")).toEqual([{ epoch: 2 }]);
  });

  it("reach a socket that hibernated, and its host is still the same", async () => {
    const host = await joinHost({ keyId });
    await evictDurableObject(await localRegion());
    const raised = floor();
    await (await localRegion()).deliverFloors([raised]);
    expect(await host.feed.next()).toEqual({ type: "floor", floor: raised });
    const [row] = must(await (await localRegion()).listHosts());
    expect(row).toMatchObject({ id: host.id, connected: true });
    host.feed.send("out of place");
    expect(await host.feed.closed).toBe(4003);
  });

  it("survive a crash of the region", async () => {
    const kept = floor();
    await (await localRegion()).deliverFloors([kept]);
    await abortAllDurableObjects();
    expect((await joinHost({ keyId })).welcome).toMatchObject({ floors: [kept] });
  });
});

describe("a heartbeat", () => {
  it("is answered, also while the object sleeps, and counts as a sign of life", async () => {
    const host = await joinHost({ keyId });
    await evictDurableObject(await localRegion());
    host.feed.send("ping");
    expect(await host.feed.next()).toBe("pong");
    const [row] = must(await (await localRegion()).listHosts());
    expect(row?.connected).toBe(true);
  });

  it("that stays away makes a host count as gone though its socket looks open", async () => {
    const host = await joinHost({ keyId });
    const region = await localRegion();
    await setClock(region, Date.now() + DEFAULT_SETTINGS.HOST_SILENCE_MS + 60_000);
    expect(must(await region.listHosts())[0]).toMatchObject({ id: host.id, connected: false });
    expect(refusal(await region.hostUrl(host.id))).toBe("host-unavailable");
    expect(refusal(await region.place(freshVmId()))).toBe("no-capacity");
  });
});

describe("placement", () => {
  it("has no capacity without hosts, with hosts that left, and with full ones", async () => {
    const region = await localRegion();
    expect(refusal(await region.place(freshVmId()))).toBe("no-capacity");
    const left = await joinHost({ keyId });
    left.feed.socket.close(1000, "bye");
    await until(async () => must(await region.listHosts()).every((host) => !host.connected), "the host did not leave");
    expect(refusal(await region.place(freshVmId()))).toBe("no-capacity");
    await joinHost({ keyId, capacity: 1 });
    must(await region.place(freshVmId()));
    expect(refusal(await region.place(freshVmId()))).toBe("no-capacity");
  });

  it("takes the host with the fewest VMs and is undone by release", async () => {
    const region = await localRegion();
    const [one, two] = [await joinHost({ keyId }), await joinHost({ keyId })];
    const placed = [];
    for (let count = 0; count < 4; count += 1) placed.push(must(await region.place(freshVmId())).hostId);
    expect(placed.filter((id) => id === one.id)).toHaveLength(2);
    expect(placed.filter((id) => id === two.id)).toHaveLength(2);
    const vmId = freshVmId();
    must(await region.place(vmId));
    await region.release(vmId);
    await region.release(vmId);
    expect(must(await region.listHosts()).map((host) => host.vmCount)).toEqual([2, 2]);
  });

  it("of the same VM twice is the same place, counted once", async () => {
    const region = await localRegion();
    await joinHost({ keyId });
    await joinHost({ keyId });
    const vmId = freshVmId();
    const first = must(await region.place(vmId));
    expect(must(await region.place(vmId))).toEqual(first);
    const counts = must(await region.listHosts()).map((host) => host.vmCount);
    expect(counts.sort()).toEqual([0, 1]);
  });

  it("never takes more than the capacity however many ask at once", async () => {
    const region = await localRegion();
    await joinHost({ keyId, capacity: 3 });
    const placed = await Promise.all(Array.from({ length: 10 }, () => region.place(freshVmId())));
    expect(placed.filter((result) => result.ok)).toHaveLength(3);
  });

  it("knows no host by an unknown id", async () => {
    expect(refusal(await (await localRegion()).hostUrl(freshName()))).toBe("host-unavailable");
  });
});

describe("settings", () => {
  it("of a shorter silence are obeyed", async () => {
    const region = await localRegion();
    const host = await joinHost({ keyId });
    await setSettings(region, { HOST_SILENCE_MS: 1 });
    await until(async () => !(await region.hostUrl(host.id)).ok, "the host still counts as connected");
  });
});
