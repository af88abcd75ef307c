import { describe, expect, test } from "vitest";
import { keyClient, newAccount, testVm } from "../system/fixture.ts";
import { expectRefusal, PACKAGES } from "../system/sdk.ts";
import { wire } from "../system/wire.ts";

const ABSENT_VM = "aaaaaaaaaaaaaaaaaaaa";

describe.each(PACKAGES)("VMs with $name", (from) => {
  test("a created VM has an id fit for DNS and SSH, runs, and is listed with the counts", async () => {
    const owner = keyClient(from, (await newAccount()).apiKey);
    const { vm, vmId } = await testVm(owner);
    expect(vmId).toMatch(/^[a-z0-9]{20}$/);
    expect(await vm.getInfo()).toMatchObject({ id: vmId, state: "running" });
    const list = await owner.vms.list();
    expect(list).toMatchObject({ totalCount: 1, runningCount: 1, startingCount: 0, suspendedCount: 0, stoppedCount: 0 });
    expect(list.vms).toMatchObject([{ id: vmId, state: "running" }]);
  });

  test("suspend and start keep what runs in memory; stop and start keep the disk", async () => {
    const owner = keyClient(from, (await newAccount()).apiKey);
    const { vm, vmId } = await testVm(owner);
    await vm.exec("sleep 1000 >/dev/null 2>&1 & echo $! >/root/pid");
    expect(await vm.suspend()).toMatchObject({ id: vmId });
    expect(await vm.getInfo()).toMatchObject({ state: "suspended" });
    expect(await vm.start()).toMatchObject({ id: vmId });
    expect(await vm.getInfo()).toMatchObject({ state: "running" });
    expect(await vm.exec("kill -0 $(cat /root/pid)")).toMatchObject({ statusCode: 0 });
    expect(await vm.stop()).toMatchObject({ vmId });
    expect(await vm.getInfo()).toMatchObject({ state: "stopped" });
    expect((await owner.vms.list()).stoppedCount).toBe(1);
    await vm.start();
    expect(await vm.exec("cat /root/pid")).toMatchObject({ statusCode: 0, stdout: expect.stringMatching(/^\d+\n$/) });
  });

  test("start, stop and suspend said twice change nothing the second time", async () => {
    const { vm } = await testVm(keyClient(from, (await newAccount()).apiKey));
    for (const [action, state] of [
      ["start", "running"],
      ["suspend", "suspended"],
      ["stop", "stopped"],
    ] as const) {
      await vm[action]();
      await vm[action]();
      expect(await vm.getInfo()).toMatchObject({ state });
    }
  });

  test("a deleted VM is gone from the list and from every call", async () => {
    const owner = keyClient(from, (await newAccount()).apiKey);
    const { vm, vmId } = await testVm(owner);
    expect(await vm.delete()).toMatchObject({ id: vmId });
    expect((await owner.vms.list()).vms).toEqual([]);
    await expectRefusal(from, vm.getInfo(), "VmNotFoundError");
    await expectRefusal(from, vm.exec("true"), "VmNotFoundError");
    await expectRefusal(from, vm.start(), "VmNotFoundError");
    await expectRefusal(from, vm.delete(), "VmNotFoundError");
  });

  test("another account's VM does not exist, for any call", async () => {
    const { vmId } = await testVm(keyClient(from, (await newAccount()).apiKey));
    const stranger = keyClient(from, (await newAccount()).apiKey);
    const foreign = stranger.vms.ref({ vmId });
    for (const call of [
      () => foreign.getInfo(),
      () => foreign.exec("id"),
      () => foreign.fs.readTextFile("/etc/hostname"),
      () => foreign.fs.writeTextFile("/root/x", "x"),
      () => foreign.start(),
      () => foreign.stop(),
      () => foreign.suspend(),
      () => foreign.delete(),
    ]) {
      await expectRefusal(from, call(), "VmNotFoundError");
    }
    expect((await stranger.vms.list()).vms).toEqual([]);
  });

  test("a VM that nobody has is not found, and an id of another form is a bad request", async () => {
    const owner = keyClient(from, (await newAccount()).apiKey);
    await expectRefusal(from, owner.vms.ref({ vmId: ABSENT_VM }).getInfo(), "VmNotFoundError");
    await expectRefusal(from, owner.vms.ref({ vmId: "NOT an id" }).getInfo(), "InvalidVmIdError");
  });

  test("a key that is wrong in any way is refused as unauthorised", async () => {
    const { apiKey } = await newAccount();
    const changed = `${apiKey.slice(0, -1)}${apiKey.endsWith("a") ? "b" : "a"}`;
    for (const wrong of ["nonsense", "psk_", changed]) {
      await expectRefusal(from, keyClient(from, wrong).vms.list(), "UnauthorizedErrorError");
      await expectRefusal(from, keyClient(from, wrong).vms.create(), "UnauthorizedErrorError");
    }
  });
});

describe("the users of a new VM", () => {
  const [from] = PACKAGES;
  if (from === undefined) throw new Error("no package");

  test("exist with a home and a login shell before create answers", async () => {
    const owner = keyClient(from, (await newAccount()).apiKey);
    const { vm } = await testVm(owner, {
      groups: [{ name: "crew", gid: 4321 }],
      users: [{ name: "alice" }, { name: "bob", uid: 4242, gecos: "Bob B", groups: ["crew"], shell: "/bin/sh", home: "/srv/bob" }],
    });
    const { stdout } = await vm.exec("getent passwd alice bob; id -Gn bob; stat -c '%U %F' /home/alice /srv/bob");
    expect(stdout?.split("\n")).toEqual([
      expect.stringMatching(/^alice:x:\d+:\d+:.*:\/home\/alice:\/bin\/bash$/),
      expect.stringMatching(/^bob:x:4242:\d+:Bob B.*:\/srv\/bob:\/bin\/sh$/),
      expect.stringContaining("crew"),
      "alice directory",
      "bob directory",
      "",
    ]);
  });

  test.each(["Alice", "-rf", "root;id", "a b", "a/../b", "x".repeat(33), "1st", "a\nb", ""])(
    "the name %j is refused and no VM is made",
    async (name) => {
      const { apiKey } = await newAccount();
      const answer = await wire("POST", "/v1/vms", { apiKey }, { users: [{ name }] });
      expect(answer).toMatchObject({ status: 400, json: { code: expect.any(String), message: expect.any(String) } });
      expect((await keyClient(from, apiKey).vms.list()).vms).toEqual([]);
    },
  );

  test("a name given twice is refused as a duplicate", async () => {
    const owner = keyClient(from, (await newAccount()).apiKey);
    await expectRefusal(from, owner.vms.create({ users: [{ name: "eve" }, { name: "eve" }] }), "DuplicateUserNameError");
  });
});
