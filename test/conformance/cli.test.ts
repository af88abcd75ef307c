import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Person, TOOL_46, TOOL_63, TOOL_217 } from "../system/cli.ts";
import { deleteVm, keyClient, newAccount, type TestAccount } from "../system/fixture.ts";
import { PACKAGE_46, type Sdk, type SdkVm } from "../system/sdk.ts";

const ABSENT_VM = "aaaaaaaaaaaaaaaaaaaa";

let account: TestAccount;
let owner: Sdk;
let vmId: string;
let vm: SdkVm;
beforeAll(async () => {
  account = await newAccount();
  owner = keyClient(PACKAGE_46, account.apiKey);
  ({ vmId, vm } = await owner.vms.create({ users: [{ name: "alice" }] }));
});
afterAll(() => deleteVm(owner, vmId));

/** The account's identities, of which a tool's own must not outlive it. */
const identities = async () => (await owner.identities.list()).identities;

describe.each([TOOL_46, TOOL_63])("the tool of $name", (tool) => {
  test("makes a VM, lists it, runs a command in it and deletes it", async () => {
    const person = new Person((await newAccount()).apiKey);
    // Not --json: both versions fail to print their own answer, which holds itself.
    const made = await person.uses(tool, ["vm", "create"]);
    expect(made).toMatchObject({ code: 0 });
    const id = /VM ID: (\w+)/.exec(made.stdout)?.[1] ?? expect.fail(made.stdout);
    expect(await person.uses(tool, ["vm", "list"])).toMatchObject({ code: 0, stdout: expect.stringContaining(id) });
    const ran = await person.uses(tool, ["vm", "exec", id, "id -un; echo wrong >&2; exit 3", "--json"]);
    expect(JSON.parse(ran.stdout.slice(ran.stdout.indexOf("{")))).toMatchObject({
      stdout: "root\n",
      stderr: "wrong\n",
      statusCode: 3,
    });
    expect(await person.uses(tool, ["vm", "delete", id])).toMatchObject({ code: 0 });
    expect((await person.uses(tool, ["vm", "list"])).stdout).toContain("No VMs found");
  });

  test("vm create --exec --delete runs a command in a VM that is gone afterwards", async () => {
    const person = new Person((await newAccount()).apiKey);
    const { code, stdout } = await person.uses(tool, ["vm", "create", "--exec", "echo in the VM", "--delete"]);
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining("in the VM") });
    expect((await person.uses(tool, ["vm", "list"])).stdout).toContain("No VMs found");
  });

  test("vm ssh is a shell in the VM, through the built-in host name, and takes its identity away", async () => {
    const { code, stdout } = await new Person(account.apiKey).uses(tool, ["vm", "ssh", vmId], "echo $(id -un) at $(hostname)\n");
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining("root at ") });
    expect(stdout).toContain("Cleanup complete");
    expect(await identities()).toEqual([]);
  });

  test("vm create --ssh --delete is a shell in a VM that is gone afterwards", async () => {
    const person = new Person((await newAccount()).apiKey);
    const { stdout } = await person.uses(tool, ["vm", "create", "--ssh", "--delete"], "echo in the $((40 + 2))nd VM\n");
    expect(stdout).toContain("in the 42nd VM");
    expect((await person.uses(tool, ["vm", "list"])).stdout).toContain("No VMs found");
  });

  test.each([
    ["exec", ["true"]],
    ["delete", []],
    ["ssh", []],
  ] as const)("vm %s of a VM that is absent or another's fails, says so, and connects nowhere", async (action, rest) => {
    const stranger = new Person((await newAccount()).apiKey);
    const [absent, foreign] = [
      await stranger.uses(tool, ["vm", action, ABSENT_VM, ...rest]),
      await stranger.uses(tool, ["vm", action, vmId, ...rest]),
    ];
    for (const { code, stdout, stderr } of [absent, foreign]) {
      expect(code).not.toBe(0);
      expect(stderr).toContain("VM_NOT_FOUND");
      expect(stdout).not.toContain("Connecting");
    }
    expect(await vm.getInfo()).toMatchObject({ id: vmId });
  });

  test("with a key that is wrong does nothing and says that it is unauthorised, once", async () => {
    const person = new Person("psk_wrong");
    for (const args of [["create"], ["list"], ["exec", vmId, "true"], ["ssh", vmId], ["delete", vmId]]) {
      const { code, stderr } = await person.uses(tool, ["vm", ...args]);
      expect([args, code, stderr]).toEqual([args, expect.any(Number), expect.stringContaining("UNAUTHORIZED_ERROR")]);
      expect(code).not.toBe(0);
    }
  });

  test("vm create with what cannot be had fails at once, by its name, and makes nothing", async () => {
    const { apiKey } = await newAccount();
    const person = new Person(apiKey);
    for (const [args, name] of [
      [["--domain", "app.example"], "domains"],
      [["--snapshot", "sh-absent"], "snapshotId"],
    ] as const) {
      const { code, stderr } = await person.uses(tool, ["vm", "create", ...args]);
      expect([args, code, stderr]).toEqual([args, 1, expect.stringContaining(name)]);
    }
    expect((await keyClient(PACKAGE_46, apiKey).vms.list()).vms).toEqual([]);
  });
});

describe("the tool of freestyle 0.1.63", () => {
  test("vm scp copies there and back as the Linux user that it names", async () => {
    const person = new Person(account.apiKey);
    const [source, copy] = [join(person.home, "source"), join(person.home, "copy")];
    writeFileSync(source, Buffer.from([0, 1, 254, 255, 10]));
    expect(await person.uses(TOOL_63, ["vm", "scp", source, `${vmId}+alice:/tmp/copied`])).toMatchObject({ code: 0 });
    expect(await vm.exec("stat -c %U /tmp/copied")).toMatchObject({ stdout: "alice\n" });
    expect(await person.uses(TOOL_63, ["vm", "scp", `${vmId}:/tmp/copied`, copy])).toMatchObject({ code: 0 });
    expect(readFileSync(copy)).toEqual(readFileSync(source));
    expect(await identities()).toEqual([]);
  });

  test("vm scp as a user without the right to write fails, copies nothing, and leaves no identity", async () => {
    const person = new Person(account.apiKey);
    const source = join(person.home, "source");
    writeFileSync(source, "x");
    const refused = await person.uses(TOOL_63, ["vm", "scp", source, `${vmId}+alice:/root/copied`]);
    expect(refused).toMatchObject({ code: expect.any(Number), stderr: expect.stringContaining("denied") });
    expect(refused.code).not.toBe(0);
    expect(await vm.exec("ls /root/copied")).toMatchObject({ statusCode: 2 });
    expect(await identities()).toEqual([]);
  });

  test("whoami says the account", async () => {
    const { code, stdout } = await new Person(account.apiKey).uses(TOOL_63, ["whoami"]);
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining(account.accountId) });
  });
});

describe("the tool of freestyle 0.2.17", () => {
  const realSsh = (...args: string[]) => ["vm", "ssh", vmId, "--real-ssh", ...args];

  test.each([
    ["the VM's own user", [], "root"],
    ["the Linux user that it names", ["--linux-user", "alice"], "alice"],
  ])("vm ssh --real-ssh is %s, ends as its command does, and takes its identity away", async (_who, flags, user) => {
    const answer = await new Person(account.apiKey).uses(TOOL_217, realSsh(...flags, "--exec", "id -un; exit 7"));
    expect(answer).toMatchObject({ code: 7, stdout: `${user}\n` });
    expect(await identities()).toEqual([]);
  });

  test("vm scp copies there and back", async () => {
    const person = new Person(account.apiKey);
    const [source, copy] = [join(person.home, "source"), join(person.home, "copy")];
    writeFileSync(source, Buffer.from([0, 1, 254, 255, 10]));
    const there = await person.uses(TOOL_217, ["vm", "scp", source, `${vmId}:/root/copied`]);
    expect([there.code, there.stderr]).toEqual([0, expect.any(String)]);
    const back = await person.uses(TOOL_217, ["vm", "scp", `${vmId}:/root/copied`, copy]);
    expect([back.code, back.stderr]).toEqual([0, expect.any(String)]);
    expect(readFileSync(copy)).toEqual(readFileSync(source));
  });

  test("refuses what is absent, another's, or asked with a wrong key, and connects nowhere", async () => {
    const stranger = new Person((await newAccount()).apiKey);
    const wrong = new Person("psk_wrong");
    for (const [person, args, said] of [
      [stranger, ["vm", "ssh", vmId, "--real-ssh", "--exec", "id"], "NOT_FOUND"],
      [stranger, ["vm", "get", ABSENT_VM], "NOT_FOUND"],
      [stranger, ["vm", "exec", vmId, "--", "id"], "NOT_FOUND"],
      [stranger, ["vm", "delete", vmId], "NOT_FOUND"],
      [stranger, ["identity", "get", ABSENT_VM], "NOT_FOUND"],
      [wrong, ["vm", "list"], "INVALID_API_KEY"],
      [wrong, ["vm", "create"], "INVALID_API_KEY"],
      [wrong, ["identity", "create"], "INVALID_API_KEY"],
    ] as const) {
      const { code, stdout, stderr } = await person.uses(TOOL_217, args);
      expect([args, code, stdout, stderr]).toEqual([args, expect.any(Number), "", expect.stringContaining(said)]);
      expect(code).not.toBe(0);
    }
  });

  test("vm ssh --real-ssh as a Linux user that the VM does not have fails and leaves no identity", async () => {
    const answer = await new Person(account.apiKey).uses(TOOL_217, realSsh("--linux-user", "mallory", "--exec", "id"));
    expect(answer).toMatchObject({ code: 255, stdout: "" });
    expect(await identities()).toEqual([]);
  });
});

test.each([TOOL_46, TOOL_217])(
  "without the screen's line, the tool of $name does not get past its built-in host name",
  async (tool) => {
    const flags = tool === TOOL_217 ? ["--real-ssh"] : [];
    const { stdout } = await new Person(account.apiKey, false).uses(tool, ["vm", "ssh", vmId, ...flags], "id -un\n");
    expect(stdout).not.toContain("root");
    expect(await identities()).toEqual([]);
  },
);
