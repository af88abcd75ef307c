import { abortAllDurableObjects, evictDurableObject, reset } from "cloudflare:test";
import { afterEach, describe, expect, it } from "vitest";
import { FEED_REGION_HEADER, FEED_SERVICE_HEADER } from "../../durable-objects/contract.ts";
import { DEFAULT_SETTINGS } from "../../durable-objects/settings.ts";
import { serviceIdOf } from "../../protocol/service-assertion.ts";
import { identitySubject } from "../../protocol/subjects.ts";
import { freshName, freshVmId, localRegion, must, refusal, runSql, setClock, setSettings } from "./objects.ts";
import { newService } from "./services.ts";
import { hostHello, joinHost, openFeed, until, upgrade } from "./verifiers.ts";

const floor = (epoch = 2, sub = identitySubject(freshName())) => ({ sub, epoch, at: Date.now() });
const openForwarderFeed = async () => openFeed((await newService({ kind: "forwarder" })).serviceId);
const forwarderHello = (id = freshName()) => ({ type: "hello", role: "forwarder", id, version: "1" });

afterEach(async () => {
  await reset();
});

describe("the feed's upgrade", () => {
  it("is refused without a service, with an unknown or revoked one, or for another region", async () => {
    const revoked = await newService({ kind: "forwarder" });
    must(await (await localRegion()).revokeService(revoked.serviceId));
    const live = await newService({ kind: "forwarder" });
    for (const headers of [
      {},
      { [FEED_REGION_HEADER]: "local" },
      { [FEED_SERVICE_HEADER]: "nosuchservice", [FEED_REGION_HEADER]: "local" },
      { [FEED_SERVICE_HEADER]: serviceIdOf(freshName(), live.serviceId.slice(17)), [FEED_REGION_HEADER]: "local" },
      { [FEED_SERVICE_HEADER]: revoked.serviceId, [FEED_REGION_HEADER]: "local" },
      { [FEED_SERVICE_HEADER]: live.serviceId, [FEED_REGION_HEADER]: "elsewhere" },
      { [FEED_SERVICE_HEADER]: live.serviceId },
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
    const id = freshName();
    const { serviceId } = await newService({ kind: "host", hostId: id });
    const good = hostHello(id);
    const bad: unknown[] = [
      "not json",
      "{}",
      { type: "host-load", freeMemory: 1, freeDisk: 1, running: 0 },
      { ...good, id: "SHORT" },
      { ...good, url: "no url" },
      { ...good, capacity: 0 },
      { ...good, role: "stranger" },
      JSON.stringify({ ...good, driver: "x".repeat(20_000) }),
    ];
    for (const frame of bad) {
      const feed = await openFeed(serviceId);
      feed.send(frame);
      expect(await feed.next()).toMatchObject({ type: "refused" });
      expect(await feed.closed).toBe(4003);
    }
    expect(must(await (await localRegion()).listHosts())).toEqual([]);
  });

  it("is welcomed with the region, the issuer and every floor that is kept", async () => {
    const kept = floor();
    await (await localRegion()).deliverFloors([kept]);
    const { welcome } = await joinHost();
    expect(welcome).toEqual({
      type: "welcome",
      region: "local",
      issuer: "postern",
      floors: [kept],
      number: 1,
      voidedKeys: [],
      now: expect.closeTo(Date.now(), -4),
    });
  });

  it("may come once only", async () => {
    const { id, feed } = await joinHost();
    feed.send(hostHello(id));
    expect(await feed.next()).toMatchObject({ type: "refused" });
    expect(await feed.closed).toBe(4003);
  });

  it("of a forwarder lets it tell no load of a host", async () => {
    const feed = await openForwarderFeed();
    feed.send(forwarderHello());
    expect(await feed.next()).toMatchObject({ type: "welcome" });
    feed.send({ type: "host-load", freeMemory: 1, freeDisk: 1, running: 0 });
    expect(await feed.closed).toBe(4003);
  });

  it("of a host that dials again replaces its older socket", async () => {
    const first = await joinHost({ url: "http://127.0.0.1:1" });
    await joinHost({ serviceId: first.serviceId, id: first.id, url: "http://127.0.0.1:2/" });
    expect(await first.feed.closed).toBe(4009);
    expect(must(await (await localRegion()).hostUrl(first.id))).toBe("http://127.0.0.1:2");
    expect(must(await (await localRegion()).listHosts())).toHaveLength(1);
  });
});

describe("floors", () => {
  it("reach every host and forwarder, and nobody who has not said hello", async () => {
    const silent = await openForwarderFeed();
    const host = await joinHost();
    const forwarder = await openForwarderFeed();
    forwarder.send(forwarderHello());
    await forwarder.next();
    const raised = floor();
    await (await localRegion()).deliverFloors([raised]);
    expect(await host.feed.next()).toEqual({ type: "floor", floor: raised, number: 1 });
    expect(await forwarder.next()).toEqual({ type: "floor", floor: raised, number: 1 });
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
    expect((await joinHost()).welcome).toMatchObject({ floors: [late] });
    await setClock(region, now + DEFAULT_SETTINGS.FLOOR_KEEP_MS + 1);
    expect((await joinHost()).welcome).toMatchObject({ floors: [] });
    await region.deliverFloors([]);
    expect(await runSql(region, "SELECT * FROM floors")).toEqual([]);
  });

  it("are taken by a region to which nobody has ever dialled", async () => {
    await reset();
    await (await localRegion()).deliverFloors([floor()]);
    expect(await runSql(await localRegion(), "SELECT epoch FROM floors")).toEqual([{ epoch: 2 }]);
  });

  it("reach a socket that hibernated, and its host is still the same", async () => {
    const host = await joinHost();
    await evictDurableObject(await localRegion());
    const raised = floor();
    await (await localRegion()).deliverFloors([raised]);
    expect(await host.feed.next()).toEqual({ type: "floor", floor: raised, number: 1 });
    const [row] = must(await (await localRegion()).listHosts());
    expect(row).toMatchObject({ id: host.id, connected: true });
    host.feed.send("out of place");
    expect(await host.feed.closed).toBe(4003);
  });

  it("survive a crash of the region", async () => {
    const kept = floor();
    await (await localRegion()).deliverFloors([kept]);
    await abortAllDurableObjects();
    expect((await joinHost()).welcome).toMatchObject({ floors: [kept] });
  });
});

describe("a heartbeat", () => {
  it("is answered with how many floors there have been, so that a lost one is missed; also by an object that starts anew", async () => {
    const host = await joinHost();
    const floors = [1, 2].map((epoch) => ({ sub: identitySubject(freshName()), epoch, at: Date.now() }));
    await (await localRegion()).deliverFloors(floors);
    expect([await host.feed.next(), await host.feed.next()]).toMatchObject([{ number: 1 }, { number: 2 }]);
    host.feed.send("ping");
    expect(await host.feed.next()).toBe("pong 2");
    await abortAllDurableObjects();
    const again = await joinHost();
    expect(again.welcome).toMatchObject({ number: 2 });
    again.feed.send("ping");
    expect(await again.feed.next()).toBe("pong 2");
  });

  it("is answered, also while the object sleeps, and counts as a sign of life", async () => {
    const host = await joinHost();
    await evictDurableObject(await localRegion());
    host.feed.send("ping");
    expect(await host.feed.next()).toBe("pong 0");
    const [row] = must(await (await localRegion()).listHosts());
    expect(row?.connected).toBe(true);
  });

  it("that stays away makes a host count as gone though its socket looks open", async () => {
    const host = await joinHost();
    const region = await localRegion();
    await setClock(region, Date.now() + DEFAULT_SETTINGS.HOST_SILENCE_MS + 60_000);
    expect(must(await region.listHosts())[0]).toMatchObject({ id: host.id, connected: false });
    expect(refusal(await region.hostUrl(host.id))).toBe("host-down");
    expect(refusal(await region.place(freshVmId()))).toBe("no-capacity");
  });
});

describe("placement", () => {
  it("has no capacity without hosts, with hosts that left, and with full ones", async () => {
    const region = await localRegion();
    expect(refusal(await region.place(freshVmId()))).toBe("no-capacity");
    const left = await joinHost();
    left.feed.socket.close(1000, "bye");
    await until(async () => must(await region.listHosts()).every((host) => !host.connected), "the host did not leave");
    expect(refusal(await region.place(freshVmId()))).toBe("no-capacity");
    await joinHost({ capacity: 1 });
    must(await region.place(freshVmId()));
    expect(refusal(await region.place(freshVmId()))).toBe("no-capacity");
  });

  it("takes the host with the fewest VMs and is undone by release", async () => {
    const region = await localRegion();
    const [one, two] = [await joinHost(), await joinHost()];
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
    await joinHost();
    await joinHost();
    const vmId = freshVmId();
    const first = must(await region.place(vmId));
    expect(must(await region.place(vmId))).toEqual(first);
    const counts = must(await region.listHosts()).map((host) => host.vmCount);
    expect(counts.sort()).toEqual([0, 1]);
  });

  it("never takes more than the capacity however many ask at once", async () => {
    const region = await localRegion();
    await joinHost({ capacity: 3 });
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
    const host = await joinHost();
    await setSettings(region, { HOST_SILENCE_MS: 1 });
    await until(async () => !(await region.hostUrl(host.id)).ok, "the host still counts as connected");
  });
});
