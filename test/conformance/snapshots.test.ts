import type { Vm } from "freestyle-0.2";
import { describe, expect, onTestFinished, test } from "vitest";
import { deleteVm, keyClient, newAccount, testIdentity, testVm, tokenClient } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { PACKAGE_63, PACKAGES } from "../system/sdk.ts";
import { expectRefusalV5, INTERNET, keyClientV5, testIdentityV5, testVmV5, tokenClientV5 } from "../system/sdk-v5.ts";
import { wire } from "../system/wire.ts";

const keyOf = async () => (await newAccount()).apiKey;
const read = async (vm: Vm, path: string) => (await vm.exec(`cat ${path}`)).stdout;

describe("snapshots with freestyle 0.2.17", () => {
  test("hold the disk as it was; VMs that begin with one have their own identity, and outlive it", async () => {
    const client = keyClientV5(await keyOf());
    const { vm } = await testVmV5(client);
    await vm.exec("echo before >/root/file; useradd --uid 2000 --create-home alice; cp /etc/machine-id /root/source");
    const taken = await vm.snapshot({ slug: "base", displayName: "Base" });
    expect(taken.sourceVmId).toBe(vm.id);
    await vm.exec("echo after >/root/file");
    const { vm: clone, data } = await testVmV5(client, { snapshotId: taken.snapshotId });
    expect(data).toMatchObject({ snapshotId: taken.snapshotId, state: "running" });
    expect(await read(clone, "/root/file")).toBe("before\n");
    expect((await clone.exec({ command: "whoami", linuxUser: "alice" })).stdout).toBe("alice\n");
    expect((await clone.exec("hostname")).stdout).toBe(`${clone.id}\n`);
    expect((await clone.exec("cmp -s /etc/machine-id /root/source")).statusCode).toBe(1);
    expect(await client.vms.snapshots.list({ sourceVmId: vm.id })).toMatchObject({ totalCount: 1 });
    expect(await client.vms.snapshots.update(taken.snapshotId, { displayName: "Other" })).toMatchObject({ displayName: "Other" });
    await vm.delete();
    await client.vms.snapshots.delete(taken.snapshotId);
    await expectRefusalV5(client.vms.snapshots.get(taken.snapshotId), "404 NOT_FOUND");
    await expectRefusalV5(client.vms.create({ firewall: INTERNET, snapshotId: taken.snapshotId }), "404 NOT_FOUND");
    expect(await read(clone, "/root/file")).toBe("before\n");
  });

  test("are not there for another account, and forbidden to an access token", async () => {
    const client = keyClientV5(await keyOf());
    const { vm } = await testVmV5(client);
    const { snapshotId } = await vm.snapshot();
    const stranger = keyClientV5(await keyOf());
    await expectRefusalV5(stranger.vms.snapshots.get(snapshotId), "404 NOT_FOUND");
    await expectRefusalV5(stranger.vms.snapshots.delete(snapshotId), "404 NOT_FOUND");
    await expectRefusalV5(stranger.vms.create({ firewall: INTERNET, snapshotId }), "404 NOT_FOUND");
    const { token } = await testIdentityV5(client, vm);
    const holder = tokenClientV5(token);
    await expectRefusalV5(holder.vms.ref(vm.id).snapshot(), "403 FORBIDDEN");
    await expectRefusalV5(holder.vms.snapshots.list(), "403 FORBIDDEN");
    await expectRefusalV5(holder.vms.ref(vm.id).resize({ cpu: 2 }), "403 FORBIDDEN");
  });
});

describe("the machine of a VM", () => {
  test("has the sizes and files that it was made with, and a resize holds at once (0.1.63)", async () => {
    const apiKey = await keyOf();
    const wish = {
      vcpuCount: 1,
      memSizeGb: 1,
      additionalFiles: {
        "/opt/deep/data": { content: "AP8K", encoding: "base64" },
        "/opt/run": { content: "#!/bin/sh\necho ran\n", executable: true },
      },
    };
    const { vm, vmId } = await testVm(keyClient(PACKAGE_63, apiKey), wish as object);
    const shown = await vm.exec("/opt/run; base64 /opt/deep/data; stat -c %a /opt/deep/data");
    expect(shown.stdout).toBe("ran\nAP8K\n644\n");
    const v5 = keyClientV5(apiKey);
    expect((await v5.vms.ref(vmId).data()).resources).toMatchObject({ cpu: 1, memory: 1024 });
    expect((await v5.vms.ref(vmId).resize({ memory: 2048 })).resources).toMatchObject({ cpu: 1, memory: 2048 });
    await expectRefusalV5(v5.vms.ref(vmId).resize({ memory: 1024 }), "400 BAD_REQUEST");
    expect(await expectRefusalV5(v5.vms.ref(vmId).resize({ storage: 10_240 }), "400 BAD_REQUEST")).toContain("storage");
  });

  test.each([
    ["rootfsSizeGb", { rootfsSizeGb: 10 }],
    ["cpu", { vcpuCount: 1000 }],
  ])("is refused when it cannot have its %s, and none is made", async (named, wish) => {
    const apiKey = await keyOf();
    const answer = await wire("POST", "/v1/vms", { apiKey }, wish);
    expect(answer).toMatchObject({ status: 400, json: { code: "CREATE_VM_BAD_REQUEST", message: expect.stringContaining(named) } });
    expect(await wire("GET", "/v1/vms", { apiKey })).toMatchObject({ json: { vms: [] } });
  });

  test("without a firewall rule reaches its metadata, and no resolver", async () => {
    const { vm } = await testVmV5(keyClientV5(await keyOf()), { firewall: { rules: [] } });
    const tries = "getent hosts debian.org; curl -s -o /dev/null http://169.254.169.254/latest/instance-id && echo metadata";
    expect((await vm.exec(tries)).stdout).toBe("metadata\n");
  });

  test("sleeps by itself when nothing uses it, and wakes with the next command", async () => {
    const client = keyClientV5(await keyOf());
    const { vm } = await testVmV5(client, { idleTimeoutSeconds: 1 });
    await until("it sleeps", 40_000, async () => ((await vm.data()).state === "paused" ? true : undefined));
    expect(await vm.exec("echo awake")).toMatchObject({ stdout: "awake\n" });
  });
});

describe("built snapshots and forks", () => {
  test("a description becomes a snapshot, and a VM begins with it", async () => {
    const apiKey = await keyOf();
    const owner = keyClient(PACKAGE_63, apiKey);
    const body = { template: { users: [{ name: "alice" }], additionalFiles: { "/srv/x": { content: "built" } } } };
    const { snapshotId } = (await wire("POST", "/v1/vms/snapshots", { apiKey }, body)).json as { snapshotId: string };
    expect((await owner.vms.list()).vms).toEqual([]);
    const { vm } = await testVm(owner, { snapshotId });
    expect(await vm.user({ username: "alice" }).exec("whoami; cat /srv/x")).toMatchObject({ stdout: "alice\nbuilt" });
  });

  test.each(PACKAGES)("forks are copies of the moment, as many as asked, with $name", async (from) => {
    const owner = keyClient(from, await keyOf());
    const { vm } = await testVm(owner);
    await vm.exec("echo before >/root/file");
    const { forks } = await vm.fork({ count: 2 });
    onTestFinished(async () => {
      for (const { vmId } of forks) await deleteVm(owner, vmId);
    });
    await vm.exec("echo after >/root/file");
    expect(forks).toHaveLength(2);
    for (const { vm: fork } of forks) expect(await fork.exec("cat /root/file")).toMatchObject({ stdout: "before\n" });
  });
});

test("services are managed by a token as the Linux user that sudo lets, and by no other", async () => {
  const [from] = PACKAGES;
  if (from === undefined) throw new Error("no package");
  const owner = keyClient(from, await keyOf());
  const { vmId } = await testVm(owner, { users: [{ name: "admin", groups: ["sudo"] }, { name: "plain" }] });
  const { token } = await testIdentity(owner, [{ vmId, allowedUsers: ["admin", "plain"] }]);
  const services = `/v1/vms/${vmId}/systemd/services`;
  const as = (linuxUser: string, method: string, path: string, body?: object) =>
    wire(method, path, { token }, body, { "x-freestyle-vm-linux-user-id": linuxUser });
  const unit = { name: "web", mode: "service", exec: ["/bin/sleep 1000"], env: { A: "a b" }, user: "plain" };
  expect(await as("admin", "POST", services, unit)).toMatchObject({ status: 200, json: { serviceName: "web" } });
  expect(await as("admin", "POST", services, unit)).toMatchObject({ status: 409, json: { code: "SERVICE_ALREADY_EXISTS" } });
  await until("it runs", 15_000, async () => {
    const { json } = await as("admin", "GET", `${services}/web/status`);
    return (json as { activeState?: string }).activeState === "active" ? true : undefined;
  });
  expect(await as("plain", "GET", services)).toMatchObject({ status: 403, json: { code: "VM_ACCESS_DENIED" } });
  expect(await as("admin", "DELETE", `${services}/ssh`)).toMatchObject({ status: 404, json: { code: "SERVICE_NOT_FOUND" } });
  expect(await as("admin", "GET", `${services}/${encodeURIComponent("../x")}/status`)).toMatchObject({ status: 400 });
  expect(await tokenClient(from, token).vms.ref({ vmId }).user({ username: "plain" }).exec("pgrep --exact sleep")).toMatchObject({
    statusCode: 0,
  });
  expect(await as("admin", "DELETE", `${services}/web`)).toMatchObject({ status: 200 });
});
