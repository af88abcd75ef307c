import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deleteVm, keyClient, newAccount, testIdentity, testVm, tokenClient } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { expectRefusal, PACKAGE_63, PACKAGES, type Sdk } from "../system/sdk.ts";
import { wire } from "../system/wire.ts";

describe.each(PACKAGES)("exec with $name", (from) => {
  let owner: Sdk;
  let holder: Sdk;
  let vmId: string;
  beforeAll(async () => {
    owner = keyClient(from, (await newAccount()).apiKey);
    ({ vmId } = await owner.vms.create({ users: [{ name: "alice" }] }));
    holder = tokenClient(from, (await testIdentity(owner, [{ vmId }])).token);
  });
  afterAll(() => deleteVm(owner, vmId));

  test.each(["key", "token"] as const)("a %s runs a command as root and gets its output, errors and status apart", async (kind) => {
    const vm = (kind === "key" ? owner : holder).vms.ref({ vmId });
    expect(await vm.exec("id -un; echo wrong >&2; exit 3")).toEqual({ stdout: "root\n", stderr: "wrong\n", statusCode: 3 });
    expect(await vm.exec({ command: "true" })).toEqual({ stdout: "", stderr: "", statusCode: 0 });
  });

  test("user() acts as that user, in that user's home", async () => {
    const alice = holder.vms.ref({ vmId }).user({ username: "alice" });
    expect(await alice.exec("id -un; pwd; echo $HOME $USER")).toMatchObject({ stdout: "alice\n/home/alice\n/home/alice alice\n" });
    expect(await alice.exec("cat /etc/shadow")).toMatchObject({ statusCode: 1, stdout: "" });
  });

  test("a user that the VM does not have is not found, by name", async () => {
    for (const client of [owner, holder]) {
      const nobody = client.vms.ref({ vmId }).user({ username: "mallory" });
      const body = await expectRefusal(from, nobody.exec("true"), "UserNotFoundError");
      expect(body.message).toContain("mallory");
    }
  });

  test.each(["Alice", "a;id", "../root", "-x", "x".repeat(33)])("the Linux user name %j is a bad request", async (username) => {
    await expectRefusal(from, owner.vms.ref({ vmId }).user({ username }).exec("true"), "BadRequestError");
  });

  test("a command passes unchanged: quotes, newlines, dollars, letters of any script", async () => {
    const vm = holder.vms.ref({ vmId });
    const text = `'"\\$HOME\`id\`\n日本 🦊`;
    const quoted = `'${text.replaceAll("'", "'\\''")}'`;
    expect((await vm.exec(`printf %s ${quoted}`)).stdout).toBe(text);
  });

  test("a command reads end of file at once instead of waiting for input", async () => {
    expect(await holder.vms.ref({ vmId }).exec("cat; echo done")).toMatchObject({ stdout: "done\n", statusCode: 0 });
  });

  test("a command killed by a signal reports 128 plus its number", async () => {
    expect(await holder.vms.ref({ vmId }).exec("kill -TERM $$")).toMatchObject({ statusCode: 143 });
  });

  test("a megabyte of output comes back whole", async () => {
    const { stdout } = await holder.vms.ref({ vmId }).exec("head -c 1000000 /dev/zero | tr '\\0' x");
    expect(stdout).toHaveLength(1_000_000);
  });

  test("many commands at once each get their own answer", async () => {
    const vm = holder.vms.ref({ vmId });
    const answers = await Promise.all(Array.from({ length: 12 }, (_, index) => vm.exec(`echo ${index}; exit ${index}`)));
    expect(answers.map(({ stdout, statusCode }) => [stdout, statusCode])).toEqual(answers.map((_, index) => [`${index}\n`, index]));
  });
});

test("a command that outlives its time is refused with the class of 0.1.63, and is ended", async () => {
  const { vm } = await testVm(keyClient(PACKAGE_63, (await newAccount()).apiKey));
  const call = vm.exec({ command: "echo started; exec sleep 4321", timeoutMs: 1500 });
  expect((await expectRefusal(PACKAGE_63, call, "ExecTimedOutError")).timeoutMs).toBe(1500);
  await until("the command is ended", 10_000, async () =>
    (await vm.exec("grep -lazE '^4321$' /proc/[0-9]*/cmdline")).statusCode === 0 ? undefined : true,
  );
});

test("a body that is no exec request is a bad request", async () => {
  const { apiKey } = await newAccount();
  const { vmId } = await testVm(keyClient(PACKAGE_63, apiKey));
  for (const body of [
    {},
    { command: 7 },
    { command: "true", timeoutMs: "soon" },
    { command: "true", timeoutMs: -1 },
    [],
    "true",
    null,
  ]) {
    const answer = await wire("POST", `/v1/vms/${vmId}/exec-await`, { apiKey }, body);
    expect(answer, JSON.stringify(body)).toMatchObject({ status: 400, json: { code: "BAD_REQUEST" } });
  }
});
