import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { run } from "../system/command.ts";
import { sha256OfFile, writeRandomFile } from "../system/hashes.ts";
import { type SshSetting, sshSetting } from "../system/ssh-fixture.ts";

const setting = sshSetting();
const SIZE = 50 * 1024 * 1024;

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
