import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deleteVm, keyClient, newAccount, system, type TestAccount, testIdentity, testVm } from "../system/fixture.ts";
import { PACKAGE_63, PACKAGES } from "../system/sdk.ts";
import { SshClient } from "../system/ssh-client.ts";
import { DocumentFolder, documentSections, type Program } from "./document-programs.ts";

const sections = documentSections("ssh-access");
const section = (title: string): string => sections.get(title) ?? expect.fail(`no section ${title}`);

const importedName = "freestyle";
const createToken: Program = { code: section("Create A Token"), importedName };
const asLinuxUser: Program = { code: section("SSH As A Linux User"), importedName };
const developers: Program = {
  code: section("Multiple Developers"),
  importedName,
  parameters: ["vmId"],
  tail: "return { alice: (await alice.tokens.create()).token, bob: (await bob.tokens.create()).token };",
};

let ssh: SshClient;
beforeAll(() => {
  ssh = new SshClient(system);
});
afterAll(() => ssh.close());

describe.each(PACKAGES)('the document "SSH Access" with $name', (from) => {
  let account: TestAccount;
  let folder: DocumentFolder;
  beforeAll(async () => {
    account = await newAccount();
    folder = new DocumentFolder(importedName, from);
  });
  afterAll(async () => {
    folder.close();
    const owner = keyClient(from, account.apiKey);
    for (const { id } of (await owner.vms.list()).vms) await deleteVm(owner, id);
  });
  const environment = () => ({ FREESTYLE_API_URL: system.apiUrl, FREESTYLE_API_KEY: account.apiKey });

  test("the line that the code prints opens a shell as root when pasted", async () => {
    const { printed } = await folder.run(createToken, environment());
    const shell = await ssh.pasted(printed[0] ?? "", "id -un");
    expect(shell).toMatchObject({ code: 0, stdout: Buffer.from("root\n") });
  });

  test("the line for the Linux user opens that user's shell, and the same token opens no other", async () => {
    const { printed } = await folder.run(asLinuxUser, environment());
    const line = printed[0] ?? "";
    const shell = await ssh.pasted(line, "id -un; pwd; id -Gn; test -w workspace && echo writable");
    expect(shell.stdout.toString()).toBe("developer\n/home/developer\ndeveloper sudo\nwritable\n");
    expect(await ssh.pasted(line.replace("+developer", ""), "id -un")).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
    expect(await ssh.pasted(line.replace("+developer", "+root"), "id -un")).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
  });

  test("each developer's token opens that developer's account and not the other's", async () => {
    const { vmId } = await testVm(keyClient(from, account.apiKey), { users: [{ name: "alice" }, { name: "bob" }] });
    const { result } = await folder.run(developers, environment(), [vmId]);
    const { alice, bob } = result as { alice: string; bob: string };
    expect((await ssh.ssh(`${vmId}+alice:${alice}`, "id -un")).stdout.toString()).toBe("alice\n");
    expect((await ssh.ssh(`${vmId}+bob:${bob}`, "id -un")).stdout.toString()).toBe("bob\n");
    expect(await ssh.ssh(`${vmId}+bob:${alice}`, "id -un")).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
    expect(await ssh.ssh(`${vmId}+alice:${bob}`, "id -un")).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
  });

  test("the checks for custom images pass in a VM as it is made", async () => {
    const { vm } = await testVm(keyClient(from, account.apiKey));
    for (const command of section("Custom images").trim().split("\n")) {
      expect(await vm.exec(command), command).toMatchObject({ statusCode: 0 });
    }
  });
});

test("every ssh form of the document logs in once its placeholders are filled", async () => {
  const owner = keyClient(PACKAGE_63, (await newAccount()).apiKey);
  const { vmId } = await testVm(owner, { users: [{ name: "developer" }] });
  const { token } = await testIdentity(owner, [{ vmId }]);
  const fill = (text: string) =>
    text.replaceAll("<vm-id>", vmId).replaceAll("<access-token>", token).replaceAll("<linux-user>", "developer");
  const [prompting = "", withToken = "", withUser = ""] = section("SSH Format").trim().split("\n").map(fill);

  expect((await ssh.pasted(withToken, "id -un")).stdout.toString()).toBe("root\n");
  expect((await ssh.pasted(withUser, "id -un")).stdout.toString()).toBe("developer\n");
  const terminal = ssh.sshOnTerminal(prompting.split(" ")[1]?.split("@")[0] ?? "", ["-t"]);
  await terminal.expectSecretPrompt();
  terminal.type(token);
  await terminal.expect(/[#$] /);
  terminal.type("id -un; exit 3");
  await terminal.expect(/root\r\n/);
  expect(await terminal.exitCode()).toBe(3);
});

test("the user and host that an editor takes from the document's URLs log in", async () => {
  const owner = keyClient(PACKAGE_63, (await newAccount()).apiKey);
  const { vmId } = await testVm(owner);
  const { token } = await testIdentity(owner, [{ vmId }]);
  const urls = section("Editor Connections").trim().split("\n");
  expect(urls).toHaveLength(2);
  for (const url of urls) {
    const authority = /ssh-remote\+([^?]+)\?/.exec(url)?.[1] ?? expect.fail(url);
    const filled = authority.replaceAll("<vm-id>", vmId).replaceAll("<access-token>", token);
    expect((await ssh.pasted(`ssh ${filled}`, "id -un")).stdout.toString(), url).toBe("root\n");
  }
});

test.each([
  ["Create A Token", createToken],
  ["SSH As A Linux User", asLinuxUser],
  ["Multiple Developers", developers],
])('the code of "%s" passes the type check of freestyle 0.1.63', async (_title, program) => {
  const folder = new DocumentFolder(importedName, PACKAGE_63);
  try {
    expect(await folder.typeCheck(program)).toMatchObject({ code: 0 });
  } finally {
    folder.close();
  }
});
