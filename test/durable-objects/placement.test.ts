import { abortAllDurableObjects, reset } from "cloudflare:test";
import { afterEach, describe, expect, it } from "vitest";
import { beyondEveryHost, chooseHost, chooseRegion, type HostLoad } from "../../durable-objects/placement.ts";
import { HOST_COUNTS } from "../../durable-objects/region-hosts.ts";
import { REGION_SCHEMA } from "../../durable-objects/region-schema.ts";
import { DEFAULT_SETTINGS } from "../../durable-objects/settings.ts";
import { freshName, freshVmId, localRegion, must, refusal, runSql, setClock } from "./objects.ts";
import { joinHost, until } from "./verifiers.ts";

afterEach(async () => {
  await reset();
});

const host = (id: string, parts: Partial<HostLoad> = {}): HostLoad => ({
  id,
  driver: "container",
  isConnected: true,
  isDraining: false,
  capacity: 10,
  vmCount: 0,
  cpus: 4,
  memory: 8_000,
  freeMemory: 8_000,
  freeDisk: 50_000,
  vmMemory: 512,
  ...parts,
});
const ANY = { driver: null, resources: {}, avoid: new Set<string>() };

describe("a size that no host will ever have", () => {
  it("is named, with the most that there is, whatever else the hosts have and however full they are", () => {
    const hosts = [host("a", { cpus: 2, vmCount: 10 }), host("b", { cpus: 8, memory: 4_000, isDraining: true })];
    expect(beyondEveryHost(hosts, { cpu: 9 })).toContain("cpu (vcpuCount): no host has more than 8");
    expect(beyondEveryHost(hosts, { memory: 8_001 })).toContain("memory (memSizeGb): no host has more than 8000");
  });

  it("is not one that a host may have when it is empty, or that a host does not tell", () => {
    expect(beyondEveryHost([host("a", { freeMemory: 0 })], { cpu: 4, memory: 8_000 })).toBeNull();
    expect(beyondEveryHost([host("a"), host("old", { cpus: null })], { cpu: 64 })).toBeNull();
    expect(beyondEveryHost([], { cpu: 64 })).toBeNull();
    expect(beyondEveryHost([host("a", { driver: "static", cpus: 1 }), host("b")], { cpu: 4 })).toBeNull();
  });
});

describe("a host is chosen", () => {
  const chosen = (hosts: HostLoad[], wish: Partial<Parameters<typeof chooseHost>[1]> = {}) =>
    chooseHost(hosts, { ...ANY, ...wish })?.id ?? null;

  it("by what is left of what it has least of: places or memory", () => {
    expect(chosen([host("full", { vmCount: 5 }), host("empty")])).toBe("empty");
    expect(chosen([host("tight", { freeMemory: 1_000 }), host("roomy", { vmCount: 5 })])).toBe("roomy");
    expect(chosen([host("large", { capacity: 100, vmCount: 20 }), host("small", { vmCount: 3 })])).toBe("large");
  });

  it("by the driver that is asked for, and away from the hosts to avoid", () => {
    expect(chosen([host("a"), host("b", { driver: "qemu" })], { driver: "qemu" })).toBe("b");
    expect(chosen([host("a"), host("b", { vmCount: 9 })], { avoid: new Set(["a"]) })).toBe("b");
  });

  it.each<[string, Partial<HostLoad>, object]>([
    ["is away", { isConnected: false }, {}],
    ["is being emptied", { isDraining: true }, {}],
    ["has as many VMs as it takes", { vmCount: 10 }, {}],
    ["has too few processors", {}, { cpu: 8 }],
    ["has too little memory left", { freeMemory: 900 }, { memory: 1_024 }],
    ["has too little memory left for a VM that asks for none", { freeMemory: 500 }, {}],
    ["has too little disk left", {}, { storage: 60_000 }],
    ["has no disk left", { freeDisk: 0 }, {}],
    ["has machines that are there already", { driver: "static" }, {}],
  ])("not if it %s", (_what, parts, resources) => {
    expect(chosen([host("a", parts)], { resources })).toBeNull();
  });

  it("whatever is asked if it does not say what it has, as older hosts do not", () => {
    const silent = { cpus: null, memory: null, freeMemory: null, freeDisk: null, vmMemory: null };
    expect(chosen([host("a", silent)], { resources: { cpu: 64, memory: 999_999, storage: 999_999 } })).toBe("a");
  });
});

it("a region is the one asked for, or where what the VM begins with is, or the first; never two", () => {
  expect(must(chooseRegion(null, null, ["eu", "us"]))).toBe("eu");
  expect(must(chooseRegion("us", null, ["eu", "us"]))).toBe("us");
  expect(must(chooseRegion(null, "us", ["eu", "us"]))).toBe("us");
  expect(refusal(chooseRegion("eu", "us", ["eu", "us"]))).toBe("vm-create-bad-request");
  expect(refusal(chooseRegion(null, null, []))).toBe("no-capacity");
});

describe("VMs of one spread group", () => {
  it("of one account are on hosts of their own, and without another host there is no capacity", async () => {
    const region = await localRegion();
    await Promise.all([joinHost(), joinHost()]);
    const wish = { accountId: freshName(), spreadGroup: "db" };
    const [one, two] = [must(await region.place(freshVmId(), wish)), must(await region.place(freshVmId(), wish))];
    expect(one.hostId).not.toBe(two.hostId);
    expect(refusal(await region.place(freshVmId(), wish))).toBe("no-capacity");
    must(await region.place(freshVmId(), { ...wish, spreadGroup: "web" }));
    must(await region.place(freshVmId(), { ...wish, accountId: freshName() }));
  });
});

describe("what a host tells of its load", () => {
  it("decides, with the VMs that were placed since taken off", async () => {
    const region = await localRegion();
    const { feed } = await joinHost({ size: { cpus: 2, memory: 4_000, vmMemory: 1_000 } });
    feed.send({ type: "host-load", freeMemory: 2_500, freeDisk: 10_000, running: 1 });
    await until(async () => must(await region.listHosts())[0]?.freeMemory === 2_500, "the load is noted");
    expect(must(await region.listHosts())[0]).toMatchObject({ cpus: 2, memory: 4_000, freeDisk: 10_000, running: 1 });
    must(await region.place(freshVmId()));
    must(await region.place(freshVmId(), { resources: { memory: 1_500 } }));
    expect(refusal(await region.place(freshVmId()))).toBe("no-capacity");
    // Waiting would not help here.
    expect(refusal(await region.place(freshVmId(), { resources: { cpu: 3 } }))).toBe("vm-create-bad-request");
    await setClock(region, Date.now() + 10);
    feed.send({ type: "host-load", freeMemory: 2_400, freeDisk: 10_000, running: 3 });
    await until(async () => (await region.place(freshVmId())).ok, "there is room again");
  });
});

describe("how many VMs a host has", () => {
  const counted = async () => must(await (await localRegion()).listHosts()).map(({ vmCount }) => vmCount);

  it("counts each VM once, however often it is placed and released", async () => {
    const region = await localRegion();
    await joinHost({ capacity: 2 });
    const [one, two] = [freshVmId(), freshVmId()];
    for (let time = 0; time < 3; time += 1) must(await region.place(one));
    must(await region.place(two));
    expect(await counted()).toEqual([2]);
    expect(refusal(await region.place(freshVmId()))).toBe("no-capacity");
    for (let time = 0; time < 3; time += 1) await region.release(one);
    await region.release(freshVmId());
    expect(await counted()).toEqual([1]);
    must(await region.place(freshVmId()));
    expect(await counted()).toEqual([2]);
  });

  it("is what was placed before it was counted, in a region of an older build", async () => {
    const region = await localRegion();
    await runSql(region, "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID");
    const steps = REGION_SCHEMA.slice(0, REGION_SCHEMA.indexOf(HOST_COUNTS));
    await runSql(region, `${steps.join("")} INSERT INTO meta VALUES ('schema', ${steps.length})`);
    await runSql(
      region,
      `INSERT INTO region VALUES ('local');
       INSERT INTO hosts (id, url, driver, version, capacity, last_seen_at) VALUES ('full', 'u', 'd', 'v', 9, 0), ('none', 'u', 'd', 'v', 9, 0);
       INSERT INTO placements (vm_id, host_id) VALUES ('a', 'full'), ('b', 'full'), ('c', 'gone')`,
    );
    await abortAllDurableObjects();
    expect(await counted()).toEqual([2, 0]);
  });
});

describe("a host that is drained", () => {
  it("is told so at once and with every welcome, takes no new VMs, and is as before once it is not", async () => {
    const region = await localRegion();
    const { id, serviceId, feed } = await joinHost();
    must(await region.drainHost(id, true));
    expect(await feed.next()).toEqual({ type: "drain", draining: true });
    expect(must(await region.listHosts())[0]).toMatchObject({ id, draining: true, connected: true });
    expect(refusal(await region.place(freshVmId()))).toBe("no-capacity");
    expect((await joinHost({ id, serviceId })).welcome).toMatchObject({ type: "welcome", draining: true });
    must(await region.drainHost(id, false));
    must(await region.place(freshVmId()));
  });

  it("must be one of the region's", async () => {
    expect(refusal(await (await localRegion()).drainHost(freshName(), true))).toBe("route-not-found");
  });
});

describe("a host that is not heard any more", () => {
  it("is worth a try for a while, and then known to be down, whether its socket closed or only fell silent", async () => {
    const region = await localRegion();
    const [closed, silent] = [await joinHost(), await joinHost()];
    closed.feed.socket.close();
    await until(async () => must(await region.listHosts()).some((one) => !one.connected), "one has left");
    expect(await region.hostUrl(closed.id)).toMatchObject({ ok: true });
    await setClock(region, Date.now() + DEFAULT_SETTINGS.HOST_SILENCE_MS + 5_000);
    for (const { id } of [closed, silent]) {
      const url = await region.hostUrl(id);
      expect(url).toMatchObject({ ok: false, failure: { kind: "host-down", details: { hostId: id } } });
    }
    expect(must(await region.listHosts())).toMatchObject([
      { connected: false, down: true },
      { connected: false, down: true },
    ]);
  });

  it("because the region was restarted has as long to dial again, counted once", async () => {
    const { id } = await joinHost();
    await abortAllDurableObjects();
    const later = Date.now() + 3_600_000;
    await setClock(await localRegion(), later);
    expect((await (await localRegion()).hostUrl(id)).ok).toBe(true);
    await abortAllDurableObjects();
    await setClock(await localRegion(), later + DEFAULT_SETTINGS.HOST_SILENCE_MS + 1);
    expect(refusal(await (await localRegion()).hostUrl(id))).toBe("host-down");
  });
});
