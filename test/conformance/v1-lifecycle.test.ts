import { describe, expect, test } from "vitest";
import { keyClient, newAccount, testVm } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { expectRefusal, PACKAGES } from "../system/sdk.ts";

describe.each(PACKAGES)("the end of a VM with $name", (from) => {
  test("is waited for: waitForExit answers when the VM is killed, with how it ended", async () => {
    const { vm, vmId } = await testVm(keyClient(from, (await newAccount()).apiKey));
    const exit = vm.waitForExit();
    expect(await vm.kill()).toMatchObject({ id: vmId });
    expect(await exit).toEqual({ id: vmId, exitStatus: "stopped" });
    expect(await vm.getInfo()).toMatchObject({ state: "stopped" });
  });

  test("of an ephemeral VM is its stop, not its sleep", async () => {
    const { vm } = await testVm(keyClient(from, (await newAccount()).apiKey), {
      persistence: { type: "ephemeral", deleteEvent: "OnStop" },
    });
    await vm.suspend();
    expect(await vm.getInfo()).toMatchObject({ state: "suspended" });
    await vm.start();
    await vm.stop();
    await until("the VM is deleted", 30_000, () =>
      vm.getInfo().then(
        () => undefined,
        () => true,
      ),
    );
    await expectRefusal(from, vm.getInfo(), "VmNotFoundError");
  });
});
