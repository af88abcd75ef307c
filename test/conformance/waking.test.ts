import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deleteVm, keyClient, newAccount, testIdentity, tokenClient } from "../system/fixture.ts";
import { expectRefusal, PACKAGES, type Sdk, type SdkVm } from "../system/sdk.ts";

const wakers: readonly (readonly [name: string, wake: (vm: SdkVm) => Promise<unknown>])[] = [
  ["an exec", (vm) => vm.exec("true")],
  ["a file read", (vm) => vm.fs.readTextFile("/etc/hostname")],
  ["a file write", (vm) => vm.fs.writeTextFile("/root/awake", "yes")],
  ["start", (vm) => vm.start()],
];

describe.each(PACKAGES)("a sleeping VM with $name", (from) => {
  let owner: Sdk;
  let vmId: string;
  let asleep: SdkVm;
  let byToken: SdkVm;
  beforeAll(async () => {
    owner = keyClient(from, (await newAccount()).apiKey);
    ({ vmId, vm: asleep } = await owner.vms.create({}));
    byToken = tokenClient(from, (await testIdentity(owner, [{ vmId }])).token).vms.ref({ vmId });
  });
  afterAll(() => deleteVm(owner, vmId));

  for (const sleep of ["suspend", "stop"] as const) {
    test.each(wakers)(`after ${sleep} is woken by %s with an access token`, async (_name, wake) => {
      await asleep[sleep]();
      await wake(byToken);
      expect(await byToken.getInfo()).toMatchObject({ state: "running" });
      expect(await byToken.exec("echo awake")).toMatchObject({ stdout: "awake\n" });
    });

    test(`after ${sleep} is not woken by reading its record, nor by a stranger`, async () => {
      await asleep[sleep]();
      const state = sleep === "stop" ? "stopped" : "suspended";
      expect(await byToken.getInfo()).toMatchObject({ state });
      const stranger = keyClient(from, (await newAccount()).apiKey);
      const ungranted = tokenClient(from, (await testIdentity(owner)).token);
      for (const client of [stranger, ungranted]) {
        await expectRefusal(from, client.vms.ref({ vmId }).exec("true"), "VmNotFoundError");
        await expectRefusal(from, client.vms.ref({ vmId }).fs.readTextFile("/etc/hostname"), "VmNotFoundError");
        await expectRefusal(from, client.vms.ref({ vmId }).start(), "VmNotFoundError");
      }
      expect(await asleep.getInfo()).toMatchObject({ state });
    });
  }

  test("is woken once by many commands at the same time, and each is answered", async () => {
    await asleep.stop();
    const answers = await Promise.all(Array.from({ length: 10 }, (_, index) => byToken.exec(`echo ${index}`)));
    expect(answers.map(({ stdout }) => stdout)).toEqual(answers.map((_, index) => `${index}\n`));
  });
});
