import { describe, expect, onTestFinished, test } from "vitest";
import { newAccount } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { expectRefusalV5, INTERNET, keyClientV5, testIdentityV5, testVmV5 } from "../system/sdk-v5.ts";
import { wire } from "../system/wire.ts";

const POLL_DEADLINE_MS = 30_000;

describe("snapshots with freestyle 0.2.17", () => {
  test("hold the disk as it was: taken, listed, shown, renamed, begun from, deleted", async () => {
    const client = keyClientV5((await newAccount()).apiKey);
    const { vm } = await testVmV5(client);
    await vm.fs.writeFile("/root/kept", "before");
    const { snapshotId } = await vm.snapshot({ slug: "base" });
    await vm.fs.writeFile("/root/kept", "after");
    const { snapshots } = client.vms;
    expect(JSON.stringify(await snapshots.list())).toContain(snapshotId);
    expect(await snapshots.get("base")).toMatchObject({ id: snapshotId, slug: "base" });
    const { vm: made } = await testVmV5(client, { snapshotId });
    expect(await made.fs.readTextFile("/root/kept")).toBe("before");
    await snapshots.delete(snapshotId);
    await expectRefusalV5(snapshots.get(snapshotId), "404 NOT_FOUND");
  });

  test("of another account do not exist", async () => {
    const { vm } = await testVmV5(keyClientV5((await newAccount()).apiKey));
    const { snapshotId } = await vm.snapshot();
    const stranger = keyClientV5((await newAccount()).apiKey);
    await expectRefusalV5(stranger.vms.snapshots.get(snapshotId), "404 NOT_FOUND");
    await expectRefusalV5(stranger.vms.snapshots.delete(snapshotId), "404 NOT_FOUND");
    await expectRefusalV5(stranger.vms.create({ firewall: INTERNET, snapshotId }), "404 NOT_FOUND");
  });
});

describe("background requests of /v5", () => {
  const startSleeper = async () => {
    const { apiKey } = await newAccount();
    const client = keyClientV5(apiKey);
    const { vm } = await testVmV5(client);
    const path = `/v5/vms/${vm.id}/exec-await`;
    const start = await wire(
      "POST",
      path,
      { apiKey },
      { command: "sleep 3; echo slept" },
      { "x-freestyle-background-after-secs": "1" },
    );
    expect(start.status).toBe(202);
    const id = start.headers.get("x-freestyle-background-request-id") ?? expect.fail("no id");
    return { apiKey, client, vm, poll: `/v5/background-requests/${id}` };
  };

  test("answer 202 with an id at once, and the call's own answer when it is there", async () => {
    const { apiKey, poll } = await startSleeper();
    const answer = await until("the command has ended", POLL_DEADLINE_MS, async () => {
      const polled = await wire("GET", poll, { apiKey });
      return polled.status === 202 ? undefined : polled;
    });
    expect(answer).toMatchObject({ status: 200, json: { stdout: "slept\n", statusCode: 0 } });
  });

  test("are nobody else's: not another account's, not an identity's without the VM, not the public's", async () => {
    const { client, vm, poll } = await startSleeper();
    expect((await wire("GET", poll, { apiKey: (await newAccount()).apiKey })).status).toBe(404);
    expect((await wire("GET", poll, null)).status).toBe(401);
    const { token, identity } = await testIdentityV5(client, vm);
    await identity.permissions.vm.revoke(vm.id);
    expect((await wire("GET", poll, { token })).status).toBe(404);
  });

  test("the SDK itself asks for one, and waits for its answer", async () => {
    const { vm } = await testVmV5(keyClientV5((await newAccount()).apiKey));
    expect(await vm.exec("sleep 12; echo slept")).toMatchObject({ stdout: "slept\n" });
  });
});

describe("sizes with freestyle 0.2.17", () => {
  test("resize answers the sizes that hold, and refuses by name what the driver cannot do", async () => {
    const { vm } = await testVmV5(keyClientV5((await newAccount()).apiKey));
    expect((await vm.resize({ memory: 2048 })).resources).toMatchObject({ memory: 2048 });
    expect((await vm.data()).resources).toMatchObject({ memory: 2048 });
    expect(await expectRefusalV5(vm.resize({ storage: 10_240 }), "400 BAD_REQUEST")).toContain("storage");
  });
});

test("an exec with a limit that no call may ask for is refused, and starts nothing", async () => {
  const client = keyClientV5((await newAccount()).apiKey);
  const { vm } = await testVmV5(client);
  onTestFinished(async () => expect((await vm.exec("ls /root/started")).statusCode).not.toBe(0));
  await expectRefusalV5(vm.exec({ command: "touch /root/started", timeoutMs: 10 ** 12 }), "400 BAD_REQUEST");
});
