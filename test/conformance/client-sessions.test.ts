import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deleteVm, keyClient, newAccount, system, type TestAccount } from "../system/fixture.ts";
import { PACKAGE_46, PACKAGES } from "../system/sdk.ts";
import { DocumentFolder, documentSections, type Program } from "./document-programs.ts";

const sections = documentSections("client-sessions");
const section = (title: string): string => sections.get(title) ?? expect.fail(`no section ${title}`);

const importedName = "freestyle-sandboxes";
const server: Program = { code: section("server.ts"), importedName };
const client: Program = {
  code: section("client.ts"),
  importedName,
  parameters: ["token", "vmId"],
  tail: `
    const { vm } = await freestyle.vms.get({ vmId });
    await vm.fs.writeTextFile("/root/from-client", "hello from the client");
    return {
      user: (await vm.exec("id -un")).stdout,
      text: await vm.fs.readTextFile("/root/from-client"),
      names: (await vm.fs.readDir("/root")).map((file) => file.name),
    };`,
};
const linuxUsers: Program = {
  code: section("Acting as a Linux user"),
  importedName,
  tail: `
    return {
      aliceFiles, bobFiles,
      alice: (await aliceVm.exec("id -un; pwd")).stdout,
      bob: (await bobVm.exec("id -un; pwd")).stdout,
    };`,
};

describe.each(PACKAGES)('the document "Client Sessions" with $name', (from) => {
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

  test("the server's code returns a token with which the client's code runs read and write operations as root", async () => {
    const { result: token } = await folder.run(server, environment());
    expect(token).toEqual(expect.any(String));
    const [vm] = (await keyClient(from, account.apiKey).vms.list()).vms;
    const { result } = await folder.run(client, { FREESTYLE_API_URL: system.apiUrl }, [String(token), vm?.id ?? ""]);
    expect(result).toMatchObject({ user: "root\n", text: "hello from the client" });
    expect((result as { names: string[] }).names).toContain("from-client");
  });

  test("the code that acts as a Linux user lists files and runs commands as that user", async () => {
    const { result } = await folder.run(linuxUsers, environment());
    const seen = result as Record<"aliceFiles" | "bobFiles", { name: string; kind: string }[]>;
    for (const files of [seen.aliceFiles, seen.bobFiles]) expect(files).toContainEqual({ name: "etc", kind: "directory" });
    expect(result).toMatchObject({ alice: "alice\n/home/alice\n", bob: "bob\n/home/bob\n" });
  });
});

test.each([
  ["server.ts", server],
  ["client.ts", client],
  ["Acting as a Linux user", linuxUsers],
])("the code of %s passes the type check of freestyle-sandboxes 0.1.46", async (_title, program) => {
  const folder = new DocumentFolder(importedName, PACKAGE_46);
  try {
    expect(await folder.typeCheck(program)).toMatchObject({ code: 0 });
  } finally {
    folder.close();
  }
});
