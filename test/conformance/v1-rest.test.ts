import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { keyClient, newAccount, system, testIdentity, testVm, tokenClient } from "../system/fixture.ts";
import { type ErrorBody, expectRefusal, PACKAGE_63, PACKAGES, type Package, type Sdk, type SdkVm } from "../system/sdk.ts";
import { wire } from "../system/wire.ts";

const ownerWith = async (from: Package) => keyClient(from, (await newAccount()).apiKey);

/** Forks a VM once, and has the copy deleted when the test is over. */
async function forked(owner: Sdk, vm: SdkVm) {
  const { forks } = await vm.fork({ count: 1 });
  onTestFinished(async () => {
    for (const { vmId } of forks) await owner.vms.delete({ vmId });
  });
  return forks[0] ?? expect.fail("no fork");
}

describe.each(PACKAGES)("copies of a VM with $name", (from) => {
  test("fork: the copy has the disk as it was, and each goes its own way", async () => {
    const owner = await ownerWith(from);
    const { vm, vmId } = await testVm(owner);
    await vm.fs.writeTextFile("/root/kept", "before");
    const copy = await forked(owner, vm);
    await vm.fs.writeTextFile("/root/kept", "after");
    expect(copy.vmId).not.toBe(vmId);
    expect(await copy.vm.fs.readTextFile("/root/kept")).toBe("before");
  });

  test("snapshot: a VM that is made from it has the disk as it was", async () => {
    const owner = await ownerWith(from);
    const { vm, vmId } = await testVm(owner);
    await vm.fs.writeTextFile("/root/kept", "before");
    const { snapshotId, sourceVmId } = await vm.snapshot();
    expect(sourceVmId).toBe(vmId);
    await vm.fs.writeTextFile("/root/kept", "after");
    const { vm: made } = await testVm(owner, { snapshotId });
    expect(await made.fs.readTextFile("/root/kept")).toBe("before");
  });

  test("snapshots.create makes one from a description, and a VM begins with what it says", async () => {
    const owner = await ownerWith(from);
    const template = { additionalFiles: { "/root/described": { content: "as described" } } };
    const { snapshotId } = await owner.vms.snapshots.create({ template } as Parameters<Sdk["vms"]["snapshots"]["create"]>[0]);
    const { vm } = await testVm(owner, { snapshotId });
    expect(await vm.fs.readTextFile("/root/described")).toBe("as described");
    await vm.delete();
    await owner.vms.snapshots.delete({ snapshotId });
    await expectRefusal(from, owner.vms.create({ snapshotId }), "SnapshotNotFoundError");
  });

  test("a snapshot that is absent or another's makes nothing", async () => {
    const owner = await ownerWith(from);
    const { snapshotId } = await (await testVm(owner)).vm.snapshot();
    const stranger = await ownerWith(from);
    await expectRefusal(from, stranger.vms.create({ snapshotId }), "SnapshotNotFoundError");
    expect((await stranger.vms.list()).vms).toEqual([]);
  });
});

describe.each(PACKAGES)("sizes of a VM with $name", (from) => {
  const resize = (vm: SdkVm, wish: Partial<Parameters<SdkVm["resize"]>[0]>) => vm.resize(wish as Parameters<SdkVm["resize"]>[0]);

  test("resize answers the sizes that hold, and refuses by name what the driver cannot do", async () => {
    const owner = await ownerWith(from);
    const { vm, vmId } = await testVm(owner);
    await resize(vm, { vcpuCount: 1, memSizeGb: 2 });
    const shown = (await owner.vms.list()).vms.find(({ id }) => id === vmId);
    expect(shown).toMatchObject({ sizing: { vcpuCount: 1, memSizeMib: 2048 } });
    const refused = await resize(vm, { rootfsSizeGb: 10 }).then(
      () => expect.fail("the disk was resized"),
      (error: { body: ErrorBody }) => error.body,
    );
    expect(from.Errors).toHaveProperty(className(refused.code));
    expect(refused.message).toContain("rootfsSizeGb");
  });

  test("an empty or senseless resize is refused", async () => {
    const { vm } = await testVm(await ownerWith(from));
    for (const wish of [{}, { memSizeGb: -1 }, { vcpuCount: 100_000 }]) {
      const refused = await resize(vm, wish).then(
        () => "no refusal",
        (error: { body: ErrorBody }) => error.body.code,
      );
      expect([wish, Object.keys(from.Errors)]).toEqual([wish, expect.arrayContaining([className(refused)])]);
    }
  });
});

describe.each(PACKAGES)("what is not offered, with $name", (from) => {
  test("is refused with a code that the package knows: optimize", async () => {
    const { vm } = await testVm(await ownerWith(from));
    const calls = [() => vm.optimize()];
    for (const call of calls) {
      const refused = await call().then(
        () => "no refusal",
        (error: { body?: ErrorBody }) => error.body?.code ?? String(error),
      );
      expect(from.Errors).toHaveProperty(className(refused));
    }
  });
});

function className(code: string): string {
  const words = code.toLowerCase().split("_");
  return `${words.map((word) => `${word[0]?.toUpperCase()}${word.slice(1)}`).join("")}Error`;
}

describe.each(PACKAGES)("terminals with $name", (from) => {
  test("terminals are listed and read by name, and one that is not there is not found", async () => {
    const { apiKey } = await newAccount();
    const { vm, vmId } = await testVm(keyClient(from, apiKey));
    expect(await vm.terminals.list()).toEqual({ terminals: [] });
    const query = new URLSearchParams({ sessionId: "build", exec: "printf '\\033[1mdone\\033[0m\\n'" });
    const headers = { authorization: `Bearer ${apiKey}` };
    const socket = new WebSocket(`${system.apiUrl.replace("http", "ws")}/v1/vms/${vmId}/pty?${query}`, { headers });
    await new Promise((resolve, reject) => socket.once("close", resolve).once("error", reject));
    const { terminals } = await vm.terminals.list();
    expect(terminals).toEqual([{ name: "build", status: "exited", created: expect.stringMatching(/^\d{4}-.*Z$/) }]);
    expect(await vm.terminals.getLogs({ terminalId: "build" })).toEqual({ logs: [{ line: "done" }] });
    expect(await vm.terminals.getOutput({ terminalId: "build" })).toEqual({ output: "\u001b[1mdone\u001b[0m\r\n" });
    await expectRefusal(from, vm.terminals.getLogs({ terminalId: "absent" }), "NotFoundError");
  });
});

describe.each(PACKAGES)("systemd with $name", (from) => {
  test("a service is made, runs, is listed, restarted, read, and deleted", async () => {
    const { vm } = await testVm(await ownerWith(from));
    const { systemd } = vm;
    await systemd.create({ name: "greeter", mode: "service", exec: ["/bin/sh -c 'echo greetings; exec sleep 1000'"] });
    expect(JSON.stringify(await systemd.list())).toContain("greeter");
    expect(JSON.stringify(await systemd.getStatus({ serviceId: "greeter" }))).toContain("active");
    expect(JSON.stringify(await systemd.getLogs({ serviceId: "greeter" }))).toContain("greetings");
    const services = [{ id: "greeter" }];
    for (const verb of ["stop", "start", "restart"] as const) {
      expect(await systemd[verb]({ services })).toMatchObject({ results: [{ serviceId: "greeter", success: true }] });
    }
    await systemd.delete({ serviceId: "greeter" });
    expect(JSON.stringify(await systemd.list())).not.toContain("greeter");
  });

  test("a service that is absent, or named like a path, is refused", async () => {
    const { vm } = await testVm(await ownerWith(from));
    await expectRefusal(from, vm.systemd.getStatus({ serviceId: "absent" }), "ServiceNotFoundError");
    await expectRefusal(from, vm.systemd.delete({ serviceId: "absent" }), "ServiceNotFoundError");
    await expect(vm.systemd.create({ name: "../x", mode: "service", exec: ["true"] })).rejects.toThrow();
  });

  test("an access token touches no service of a VM that was not granted", async () => {
    const owner = await ownerWith(from);
    const { vmId } = await testVm(owner);
    const ungranted = tokenClient(from, (await testIdentity(owner)).token).vms.ref({ vmId });
    await expectRefusal(from, ungranted.systemd.list(), "VmNotFoundError");
  });
});

/** Members of 0.1.63 that its stand-in types, 0.1.46's, do not declare. */
interface Only63 {
  readonly vms: {
    readonly snapshots: {
      list(): Promise<{ snapshots: { snapshotId?: string; id?: string }[] }>;
      get(options: { snapshotId: string }): Promise<object>;
      ref(options: { snapshotId: string }): { update(options: { name: string }): Promise<unknown> };
    };
  };
  readonly whoami: () => Promise<{ accountId: string; identityId?: string }>;
}

describe("only freestyle 0.1.63", () => {
  test("lists, shows, renames and deletes snapshots", async () => {
    const owner = await ownerWith(PACKAGE_63);
    const { snapshots } = (owner as unknown as Only63).vms;
    const { vm } = await testVm(owner);
    const { snapshotId } = await vm.snapshot();
    expect(JSON.stringify(await snapshots.list())).toContain(snapshotId);
    expect(await snapshots.get({ snapshotId })).toMatchObject({ snapshotId });
    await snapshots.ref({ snapshotId }).update({ name: "renamed" });
    expect(await snapshots.get({ snapshotId })).toMatchObject({ snapshotId, name: "renamed" });
    await owner.vms.snapshots.delete({ snapshotId });
    expect(JSON.stringify((await snapshots.list()).snapshots)).not.toContain(snapshotId);
  });

  test("whoami says its account and identity; to a key, the account alone", async () => {
    const { apiKey, accountId } = await newAccount();
    const owner = keyClient(PACKAGE_63, apiKey);
    expect(await (owner as unknown as Only63).whoami()).toEqual({ accountId });
    const { token, identityId } = await testIdentity(owner);
    expect(await (tokenClient(PACKAGE_63, token) as unknown as Only63).whoami()).toEqual({ accountId, identityId });
  });

  test("getBuild and getLogs are refused with what the package can read", async () => {
    const owner = await ownerWith(PACKAGE_63);
    const { vm } = await testVm(owner);
    const { getBuild, getLogs } = vm as unknown as { getBuild(): Promise<unknown>; getLogs(): Promise<unknown> };
    await expect(getBuild.call(vm)).rejects.toThrow(/failed: \d{3}/);
    expect(await getLogs.call(vm).catch((error: { body?: ErrorBody }) => error.body)).toEqual(expect.any(Object));
  });
});

describe.each(PACKAGES)("background requests with $name", (from) => {
  test("create with a logger answers when the VM runs, whether or not the answer came later", async () => {
    const owner = await ownerWith(from);
    const lines: string[] = [];
    const { vmId } = await testVm(owner, { logger: (line: string) => lines.push(line) } as object);
    expect(await owner.vms.ref({ vmId }).getInfo()).toMatchObject({ state: "running" });
  });

  test("one that is absent or another's answers not found", async () => {
    const { apiKey } = await newAccount();
    for (const id of ["absent", "a".repeat(40)]) {
      const answer = await wire("GET", `/auth/v1/background-requests/${id}`, { apiKey });
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(answer.status).toBeLessThan(500);
    }
  });
});
