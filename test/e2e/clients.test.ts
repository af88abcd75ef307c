import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type ssh2 from "ssh2";
import { beforeAll, expect, test } from "vitest";
import { type CommandOptions, type Finished, run } from "../system/command.ts";
import { system } from "../system/fixture.ts";
import { sha256OfFile, writeRandomFile } from "../system/hashes.ts";
import { sshSetting } from "../system/ssh-fixture.ts";
import { ssh2Client } from "../system/ssh2-client.ts";

/** Other clients than OpenSSH's, each as its own package has it: a command with its exit code, and a file there and back. */

const setting = sshSetting();
const { sshHost, sshPort } = system;
const PORT = String(sshPort);
const PYTHON = fileURLToPath(new URL("../system/python-clients.py", import.meta.url));

let file: string;
let hash: string;
beforeAll(async () => {
  file = join(setting().ssh.folder, "file");
  await writeRandomFile(file, 3 * 1024 * 1024);
  hash = await sha256OfFile(file);
});

/** Runs a client with a home of its own, so that it finds no keys and no known hosts. */
function client(command: string, args: readonly string[], options: CommandOptions = {}): Promise<Finished> {
  return run(command, args, { ...options, env: { PATH: process.env.PATH, HOME: setting().ssh.folder, ...options.env } });
}

/** The file is in the VM under a name in root's home, and has come back as another here. */
async function expectThereAndBack(name: string): Promise<void> {
  expect((await setting().vm.exec(`sha256sum </root/${name}`)).stdout).toBe(`${hash}  -\n`);
  expect(await sha256OfFile(`${file}-${name}`)).toBe(hash);
}

test("Dropbear's dbclient runs a command and carries a file through a pipe", async () => {
  const { root } = setting();
  // By -l: it takes a comma in `user@host` for a chain of hosts.
  const words = ["-y", "-y", "-p", PORT, "-l", root, sshHost];
  const ended = await client("dbclient", [...words, "id -un; exit 3"]);
  expect(ended, ended.stderr).toMatchObject({ code: 3, stdout: Buffer.from("root\n") });
  const pipe = (command: string) => client("sh", ["-c", command, "sh", "dbclient", ...words]);
  expect(await pipe(`"$@" "cat >dbclient" <${file}`)).toMatchObject({ code: 0 });
  expect(await pipe(`"$@" "cat dbclient" >${file}-dbclient`)).toMatchObject({ code: 0 });
  await expectThereAndBack("dbclient");
});

test("PuTTY's plink runs a command, and its psftp carries a file", async () => {
  const { root } = setting();
  // They take a host key only by its fingerprint when nobody is there to ask.
  const published = await client("ssh-keygen", ["-l", "-f", join(system.home, "known_hosts")]);
  const fingerprint = /SHA256:\S+(?=.*ED25519)/.exec(published.stdout.toString())?.[0] ?? "";
  const words = ["-batch", "-P", PORT, "-hostkey", fingerprint, "-l", root];
  const ended = await client("plink", ["-ssh", ...words, sshHost, "id -un; exit 3"]);
  expect(ended, ended.stderr).toMatchObject({ code: 3, stdout: Buffer.from("root\n") });
  const batch = join(setting().ssh.folder, "psftp-batch");
  writeFileSync(batch, `put ${file} psftp\nget psftp ${file}-psftp\n`);
  const carried = await client("psftp", [...words, "-b", batch, sshHost]);
  expect(carried, carried.stderr).toMatchObject({ code: 0 });
  await expectThereAndBack("psftp");
});

test("lftp carries a file and goes on with one that is there in part, with the token as the password", async () => {
  const { ssh, vmId, token } = setting();
  writeFileSync(`${file}-lftp`, readFileSync(file).subarray(0, 1_000_000));
  const script = [
    "set net:max-retries 1",
    "set cmd:fail-exit yes",
    "set sftp:auto-confirm yes",
    `set sftp:connect-program 'ssh -a -x ${ssh.options.join(" ")}'`,
    `open -p ${PORT} -u ${vmId},${token} sftp://${sshHost}`,
    `put ${file} -o lftp`,
    `get -c lftp -o ${file}-lftp`,
  ];
  const ended = await client("lftp", ["-c", script.join("; ")]);
  expect(ended, ended.stderr).toMatchObject({ code: 0 });
  await expectThereAndBack("lftp");
});

test("Python's Paramiko and AsyncSSH run a command by a token in the name, and carry a file by one as the password", async () => {
  const { root, vmId, token } = setting();
  const args = [PYTHON, sshHost, PORT, root, vmId, file];
  const ended = await client("/usr/bin/python3", args, { env: { TOKEN: token } });
  expect(ended.code, ended.stderr).toBe(0);
  expect(JSON.parse(ended.stdout.toString())).toEqual({ paramiko: ["root\n", 3], asyncssh: ["root\n", 3] });
  await expectThereAndBack("paramiko");
  await expectThereAndBack("asyncssh");
});

test("Node's ssh2 runs a command by a token in the name; as JetBrains do, it uploads with many requests under way beside it", async () => {
  const { root, vmId, token } = setting();
  const endpoint = { host: sshHost, port: sshPort };
  const named = await ssh2Client({ ...endpoint, username: root });
  expect(await ended(named, "id -un; exit 3")).toEqual(["root\n", 3]);
  const asked = await ssh2Client({ ...endpoint, username: vmId, password: token });
  const sftp = await new Promise<ssh2.SFTPWrapper>((resolve, reject) => {
    asked.sftp((error, opened) => (error ? reject(error) : resolve(opened)));
  });
  const call = (begin: (done: (error?: Error | null) => void) => void) =>
    new Promise<void>((resolve, reject) => begin((error) => (error ? reject(error) : resolve())));
  const many = { concurrency: 64, chunkSize: 32_768 };
  const command = ended(asked, "echo beside; exit 4");
  await call((done) => sftp.fastPut(file, "/root/ssh2.part", many, done));
  await call((done) => sftp.rename("/root/ssh2.part", "/root/ssh2", done));
  await call((done) => sftp.chmod("/root/ssh2", 0o755, done));
  await call((done) => sftp.fastGet("/root/ssh2", `${file}-ssh2`, many, done));
  expect(await command).toEqual(["beside\n", 4]);
  expect((await setting().vm.exec("stat -c %a /root/ssh2")).stdout).toBe("755\n");
  await expectThereAndBack("ssh2");
});

/** A command's output and exit code. */
function ended(client: ssh2.Client, command: string): Promise<[output: string, code: number]> {
  return new Promise((resolve, reject) => {
    client.exec(command, (error, channel) => {
      if (error) return reject(error);
      let output = "";
      let code = -1;
      channel.on("data", (chunk: Buffer) => {
        output += chunk.toString();
      });
      channel.on("exit", (status: number) => {
        code = status;
      });
      channel.on("close", () => resolve([output, code]));
    });
  });
}
