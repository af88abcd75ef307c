import { randomBytes } from "node:crypto";
import { rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { BackgroundCommand, run } from "../system/command.ts";
import { blake2OfFile, sha256OfFile, writeRandomFile, writeSparseFile } from "../system/hashes.ts";
import { until } from "../system/poll.ts";
import { type SshSetting, sshSetting } from "../system/ssh-fixture.ts";

const setting = sshSetting();
const SIZE = 50 * 1024 * 1024;
const GIBIBYTE = 1024 * 1024 * 1024;
/** It takes five seconds; a machine with more to do may take longer. */
const GIBIBYTE_MS = 100_000;

let upload: string;
let hash: string;
beforeAll(async () => {
  upload = join(setting().ssh.folder, "upload");
  await writeRandomFile(upload, SIZE);
  hash = await sha256OfFile(upload);
});

async function hashInVm({ vm }: SshSetting, path: string): Promise<string | undefined> {
  return (await vm.exec(`sha256sum ${path}`)).stdout?.slice(0, 64);
}

test.each([
  ["scp", []],
  ["scp with its old protocol", ["-O"]],
])("50 MB by %s arrive whole, both ways", async (name, flags) => {
  const { ssh, root } = setting();
  const path = `/root/${name.replaceAll(" ", "-")}`;
  const download = join(ssh.folder, name.replaceAll(" ", "-"));
  expect(await ssh.scp(root, (remote) => [...flags, upload, remote(path)])).toMatchObject({ code: 0 });
  expect(await hashInVm(setting(), path)).toBe(hash);
  expect(await ssh.scp(root, (remote) => [...flags, remote(path), download])).toMatchObject({ code: 0 });
  expect(await sha256OfFile(download)).toBe(hash);
});

test("50 MB by sftp arrive whole, both ways", async () => {
  const { ssh, root } = setting();
  const download = join(ssh.folder, "sftp");
  expect(await ssh.sftp(root, [`put ${upload} /root/sftp`, `get /root/sftp ${download}`])).toMatchObject({ code: 0 });
  expect(await hashInVm(setting(), "/root/sftp")).toBe(hash);
  expect(await sha256OfFile(download)).toBe(hash);
});

test("50 MB through a pipe arrive whole, both ways at the same time", async () => {
  const { ssh, root } = setting();
  const echoed = await run("sh", ["-c", `"$@" <${upload} | sha256sum`, "sh", "ssh", ...ssh.options, ssh.target(root), "cat"]);
  expect(echoed.stdout.toString().slice(0, 64)).toBe(hash);
});

test("rsync copies a folder there and back, and has nothing left to do the second time", async () => {
  const { ssh, root } = setting();
  const shell = `ssh ${ssh.options.join(" ")} -o BatchMode=yes`;
  const there = ["-a", "--itemize-changes", "-e", shell, `${upload}`, `${ssh.target(root)}:/root/rsync/`];
  expect(await run("rsync", there)).toMatchObject({ code: 0 });
  expect((await run("rsync", there)).stdout.toString()).toBe("");
  expect(await hashInVm(setting(), "/root/rsync/upload")).toBe(hash);
  const back = join(ssh.folder, "rsync");
  expect(await run("rsync", ["-a", "-e", shell, `${ssh.target(root)}:/root/rsync/`, `${back}/`])).toMatchObject({ code: 0 });
  expect(await sha256OfFile(join(back, "upload"))).toBe(hash);
});

/** Begins an sftp command and kills the client when a part has arrived. */
async function breakOff(words: readonly string[], command: string, hasArrived: () => Promise<boolean>): Promise<void> {
  const { ssh, root } = setting();
  const batch = join(ssh.folder, "batch");
  writeFileSync(batch, `${command}\n`);
  const broken = new BackgroundCommand("sftp", [...ssh.options, "-q", ...words, "-b", batch, ssh.target(root)]);
  try {
    await until("a part has arrived", 30_000, async () => ((await hasArrived()) ? true : undefined));
    expect(broken.process.exitCode).toBe(null);
  } finally {
    await broken.kill();
  }
}

test(
  "1 GiB by sftp, broken off in the middle on its way there and again on its way back, goes on from there and arrives whole",
  async () => {
    const { ssh, root, vm } = setting();
    const [there, back] = [join(ssh.folder, "gigabyte"), join(ssh.folder, "gigabyte-back")];
    await writeSparseFile(there, GIBIBYTE);
    const sent = await blake2OfFile(there);
    const arrived = async () => Number((await vm.exec("stat -c %s /root/gigabyte")).stdout);
    await breakOff([], `put ${there} /root/gigabyte`, async () => (await arrived()) > 50_000_000);
    expect(await arrived()).toBeLessThan(GIBIBYTE);
    const put = await ssh.sftp(root, [`reput ${there} /root/gigabyte`], { timeoutMs: GIBIBYTE_MS });
    expect(put, put.stderr).toMatchObject({ code: 0 });
    expect((await vm.exec("b2sum </root/gigabyte")).stdout).toBe(`${sent}  -\n`);

    await breakOff([], `get /root/gigabyte ${back}`, async () => statSync(back).size > 50_000_000);
    expect(statSync(back).size).toBeLessThan(GIBIBYTE);
    const get = await ssh.sftp(root, [`reget /root/gigabyte ${back}`], { timeoutMs: GIBIBYTE_MS });
    expect(get, get.stderr).toMatchObject({ code: 0 });
    expect(await blake2OfFile(back)).toBe(sent);
    await vm.exec("rm /root/gigabyte");
    for (const file of [there, back]) rmSync(file);
  },
  3 * GIBIBYTE_MS,
);

test("new keys for every megabyte, asked for by the client in the middle of a transfer, lose no byte", async () => {
  const { ssh, root } = setting();
  const input = randomBytes(20_000_000);
  const result = await ssh.ssh(root, "cat", { input, flags: ["-v", "-o", "RekeyLimit=1M"] });
  expect(result.stderr.match(/SSH2_MSG_NEWKEYS received/g)?.length ?? 0).toBeGreaterThan(10);
  expect(result.stdout.equals(input)).toBe(true);
});

test("git clones from the VM, pushes to it, and the clone is whole", async () => {
  const { ssh, root, vm } = setting();
  await vm.exec("git init -q --bare -b main /root/project.git");
  const env = {
    PATH: process.env.PATH,
    HOME: ssh.folder,
    GIT_SSH_COMMAND: `ssh ${ssh.options.join(" ")} -o BatchMode=yes`,
    GIT_CONFIG_NOSYSTEM: "1",
  };
  const git = (...words: string[]) => run("git", ["-c", "user.name=a", "-c", "user.email=a@example.com", ...words], { env });
  const [first, second] = [join(ssh.folder, "first"), join(ssh.folder, "second")];
  const url = `ssh://${ssh.target(root)}/root/project.git`;
  expect(await git("clone", "-q", url, first)).toMatchObject({ code: 0 });
  await writeRandomFile(join(first, "file"), 5 * 1024 * 1024);
  await git("-C", first, "checkout", "-q", "-B", "main");
  await git("-C", first, "add", ".");
  expect(await git("-C", first, "commit", "-q", "-m", "a file")).toMatchObject({ code: 0 });
  expect(await git("-C", first, "push", "-q", "origin", "main")).toMatchObject({ code: 0 });
  const cloned = await git("clone", "-q", url, second);
  expect(cloned, cloned.stderr).toMatchObject({ code: 0 });
  expect(await sha256OfFile(join(second, "file"))).toBe(await sha256OfFile(join(first, "file")));
});

test("sftp acts with the Linux user's own rights", async () => {
  const { ssh, vmId, token } = setting();
  const refused = await ssh.sftp(`${vmId}+alice,${token}`, ["put /etc/hostname /etc/alice-was-here"]);
  expect(refused.code).toBe(1);
  expect(await ssh.sftp(`${vmId}+alice,${token}`, ["put /etc/hostname note", "ls -l note"])).toMatchObject({ code: 0 });
  expect((await setting().vm.exec("stat -c %U /home/alice/note; ls /etc/alice-was-here")).stdout).toBe("alice\n");
});

test("a transfer with a wrong token moves nothing and fails", async () => {
  const { ssh, vmId } = setting();
  const wrong = `${vmId},pst_${"a".repeat(46)}`;
  expect((await ssh.scp(wrong, (remote) => ["/etc/hostname", remote("/root/stolen")])).code).not.toBe(0);
  expect((await ssh.sftp(wrong, ["put /etc/hostname /root/stolen"])).code).not.toBe(0);
  expect((await setting().vm.exec("ls /root/stolen")).statusCode).not.toBe(0);
});
