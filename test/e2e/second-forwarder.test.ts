import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { run } from "../system/command.ts";
import { system } from "../system/fixture.ts";
import { OwnForwarder } from "../system/own-forwarder.ts";
import { until } from "../system/poll.ts";
import { SshClient } from "../system/ssh-client.ts";
import { sshSetting } from "../system/ssh-fixture.ts";

/** What takes a gigabyte, an hour or another host key in production, through a forwarder whose limits are as small as they may be. */

const REKEY_BYTES = 1_048_576;
const REKEY_MS = 1_000;
const DEADLINE_MS = 20_000;
/** The gateway's name in `known_hosts`, whatever its port. */
const GATEWAY = "gateway";
/** What OpenSSH says when new keys are in use, the first ones included. */
const NEW_KEYS = /SSH2_MSG_NEWKEYS received/g;

const setting = sshSetting();
const folder = mkdtempSync(join(tmpdir(), "postern-own-forwarder-"));
const authority = join(folder, "authority");
let forwarder: OwnForwarder;
let endpoint: { sshHost: string; sshPort: number };

beforeAll(async () => {
  forwarder = new OwnForwarder(folder, system, {
    POSTERN_SSH_REKEY_BYTES: String(REKEY_BYTES),
    POSTERN_SSH_REKEY_MS: String(REKEY_MS),
  });
  await forwarder.hostKeys();
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", authority]);
  await certify("ssh_host_ed25519_key");
  await certify("ssh_host_ed25519_key.next");
  endpoint = await forwarder.start();
});
afterAll(async () => {
  await forwarder.stop();
  rmSync(folder, { recursive: true });
});

/** Has the authority sign one of the forwarder's host keys. */
async function certify(name: string): Promise<void> {
  const key = join(forwarder.stateFolder, name);
  const { stdout } = await run("ssh-keygen", ["-y", "-f", key]);
  writeFileSync(`${key}.pub`, stdout);
  const signed = await run("ssh-keygen", ["-q", "-s", authority, "-I", name, "-h", "-n", GATEWAY, `${key}.pub`]);
  expect(signed, signed.stderr).toMatchObject({ code: 0 });
}

function client(hostKeyChecking: "accept-new" | "yes"): SshClient {
  const ssh = new SshClient(endpoint, hostKeyChecking);
  onTestFinished(() => ssh.close());
  return ssh;
}

/** The keys of `known_hosts` lines, or of lines without a host, in some order. */
const keysIn = (lines: string): string[] => [...(lines.match(/AAAA\S+/g) ?? [])].sort();

const count = (text: string, what: RegExp) => text.match(what)?.length ?? 0;

test.each([
  ["alone", []],
  ["beside those that the client asks for", ["-o", "RekeyLimit=3M"]],
])("the gateway's key exchanges by bytes, %s, lose no byte of a transfer both ways", async (_how, flags) => {
  const input = randomBytes(16 * REKEY_BYTES);
  const since = Date.now();
  const { code, stdout, stderr } = await client("accept-new").ssh(setting().root, "cat", { input, flags: ["-v", ...flags] });
  const byTime = (Date.now() - since) / REKEY_MS;
  expect(code, stderr).toBe(0);
  expect(stdout.equals(input)).toBe(true);
  expect(count(stderr, NEW_KEYS)).toBeGreaterThan(byTime + 8);
});

test("its key exchanges by time lose no byte of what flows both ways", async () => {
  const session = client("accept-new").sshInBackground(setting().root, "cat", ["-v"]);
  onTestFinished(() => session.kill());
  const sent = createHash("sha256");
  let bytes = 0;
  const keys = () => count(session.errors, NEW_KEYS);
  await until("there are keys", DEADLINE_MS, () => (keys() === 1 ? true : undefined));
  await until("they were exchanged twice more", DEADLINE_MS, () => {
    if (keys() >= 3) return true;
    const chunk = randomBytes(8_192);
    sent.update(chunk);
    bytes += chunk.length;
    session.process.stdin.write(chunk);
  });
  session.process.stdin.end();
  const { code, stdout } = await session.finished;
  expect(code).toBe(0);
  expect(createHash("sha256").update(stdout).digest("hex")).toBe(sent.digest("hex"));
  // Too little for an exchange by bytes.
  expect(2 * bytes).toBeLessThan(REKEY_BYTES);
});

test("who trusts only an authority trusts the gateway, before and after its host key is rotated, and so does who learned the next key", async () => {
  const { root } = setting();
  const [trusting, learning] = [client("yes"), client("yes")];
  writeFileSync(trusting.knownHosts, `@cert-authority ${GATEWAY} ${readFileSync(`${authority}.pub`, "utf8")}`);
  const published = async () => (await forwarder.hostKeys()).stdout.toString();
  const [inUse = ""] = (await published()).split("\n");
  writeFileSync(learning.knownHosts, `${GATEWAY} ${inUse}\n`);
  const flags = ["-o", `HostKeyAlias=${GATEWAY}`, "-o", "UpdateHostKeys=yes"];
  const connects = async (ssh: SshClient) => {
    // The client learns keys while its session lasts.
    const ended = await ssh.ssh(root, "sleep 0.5; echo in", { flags });
    expect(ended, ended.stderr).toMatchObject({ code: 0, stdout: Buffer.from("in\n") });
  };
  const known = () => keysIn(readFileSync(learning.knownHosts, "utf8"));
  await connects(trusting);
  await connects(learning);
  // All of the gateway, the next ones among them, and none of the VM.
  const before = keysIn(await published());
  await until("the client wrote what it learned", DEADLINE_MS, () => (known().length > 1 ? true : undefined));
  expect(known()).toEqual(before);
  await forwarder.hostKeys("rotate");
  await forwarder.stop();
  endpoint = await forwarder.start();
  for (const ssh of [trusting, learning]) {
    ssh.configure(endpoint, "yes");
    await connects(ssh);
  }
  const after = keysIn(await published());
  await until("the client forgot the old keys", DEADLINE_MS, () =>
    known().some((key) => !after.includes(key)) ? undefined : true,
  );
  expect(known()).toEqual(after);
  // Whoever knows only the old one is warned.
  writeFileSync(learning.knownHosts, `${GATEWAY} ${inUse}\n`);
  expect(await learning.ssh(root, "echo in", { flags })).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
});
