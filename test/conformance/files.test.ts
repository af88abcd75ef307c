import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deleteVm, keyClient, newAccount, testIdentity, tokenClient } from "../system/fixture.ts";
import { expectRefusal, PACKAGES, type Sdk, type SdkVm } from "../system/sdk.ts";

describe.each(PACKAGES)("files with $name", (from) => {
  let owner: Sdk;
  let vmId: string;
  let byToken: SdkVm;
  beforeAll(async () => {
    owner = keyClient(from, (await newAccount()).apiKey);
    ({ vmId } = await owner.vms.create({ users: [{ name: "alice" }] }));
    byToken = tokenClient(from, (await testIdentity(owner, [{ vmId }])).token).vms.ref({ vmId });
  });
  afterAll(() => deleteVm(owner, vmId));

  test.each(["key", "token"] as const)("with a %s, bytes that were written are the bytes that are read", async (kind) => {
    const { fs } = kind === "key" ? owner.vms.ref({ vmId }) : byToken;
    const bytes = randomBytes(300_000);
    await fs.writeFile(`/root/bytes-${kind}`, bytes);
    expect((await fs.readFile(`/root/bytes-${kind}`)).equals(bytes)).toBe(true);
    await fs.writeFile(`/root/bytes-${kind}`, Buffer.alloc(0));
    expect(await fs.readFile(`/root/bytes-${kind}`)).toHaveLength(0);
  });

  test("text keeps every letter, also under names with spaces, percent signs, hashes and other scripts", async () => {
    for (const name of ["a b", "100%", "%2F", "a#b?c", "日本 🦊", "it's"]) {
      await byToken.fs.writeTextFile(`/root/${name}`, `${name}: grüße\n`);
      expect(await byToken.fs.readTextFile(`/root/${name}`)).toBe(`${name}: grüße\n`);
    }
    const names = (await byToken.fs.readDir("/root")).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["a b", "100%", "%2F", "a#b?c", "日本 🦊", "it's"]));
  });

  test("mkdir, exists, stat, readDir and remove agree with each other", async () => {
    const { fs } = byToken;
    await fs.mkdir("/root/tree/branch", true);
    await fs.writeTextFile("/root/tree/leaf", "leaf");
    expect(await fs.exists("/root/tree/branch")).toBe(true);
    expect(await fs.stat("/root/tree")).toMatchObject({ isDirectory: true, isFile: false, owner: "root" });
    expect(await fs.stat("/root/tree/leaf")).toMatchObject({ isFile: true, size: 4 });
    const listed = await fs.readDir("/root/tree");
    expect(listed.toSorted((left, right) => left.name.localeCompare(right.name))).toEqual([
      { name: "branch", kind: "directory" },
      { name: "leaf", kind: "file" },
    ]);
    await fs.remove("/root/tree", true);
    expect(await fs.exists("/root/tree")).toBe(false);
  });

  test("a file that is not there is not found, with its path", async () => {
    const body = await expectRefusal(from, byToken.fs.readTextFile("/root/absent"), "FileNotFoundError");
    expect(body.path).toBe("/root/absent");
  });

  test("a user's files belong to that user, and that user's permissions are the guest's own", async () => {
    const { fs } = byToken.user({ username: "alice" });
    await fs.writeTextFile("/home/alice/note", "mine");
    expect(await byToken.fs.stat("/home/alice/note")).toMatchObject({ owner: "alice" });
    await expectRefusal(from, fs.readTextFile("/etc/shadow"), "AccessDeniedError");
    await expectRefusal(from, fs.writeTextFile("/etc/alice-was-here", "no"), "AccessDeniedError");
    expect(await byToken.fs.exists("/etc/alice-was-here")).toBe(false);
  });

  test("a file is not a directory and a directory is not a file", async () => {
    await expect(byToken.fs.readDir("/etc/passwd")).rejects.toThrow("not a directory");
    await expect(byToken.fs.readTextFile("/etc")).rejects.toThrow("Unexpected response format");
  });

  test("writing where a directory stands, or a file stands for a directory, is refused", async () => {
    await expectRefusal(from, byToken.fs.writeTextFile("/etc", "no"), "FilesBadRequestError");
    await expect(byToken.fs.writeTextFile("/etc/passwd/x", "no")).rejects.toThrow();
    expect(await byToken.fs.stat("/etc/passwd")).toMatchObject({ isFile: true });
  });
});
