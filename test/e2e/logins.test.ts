import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, onTestFinished, test } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { newAccount, system, testIdentity } from "../system/fixture.ts";
import { SshClient } from "../system/ssh-client.ts";
import { sshSetting } from "../system/ssh-fixture.ts";

const setting = sshSetting();

/** What a refused login looks like to a program: OpenSSH's own 255, and nothing on standard output. */
const REFUSED = { code: 255, stdout: Buffer.alloc(0) };
const ABSENT_VM = "aaaaaaaaaaaaaaaaaaaa";

describe("a login", () => {
  test.each([
    ["vm:token", (vmId: string, token: string) => `${vmId}:${token}`, "root"],
    ["vm,token", (vmId: string, token: string) => `${vmId},${token}`, "root"],
    ["vm+user:token", (vmId: string, token: string) => `${vmId}+alice:${token}`, "alice"],
    ["vm+user,token", (vmId: string, token: string) => `${vmId}+bob,${token}`, "bob"],
    ["vm+root:token", (vmId: string, token: string) => `${vmId}+root:${token}`, "root"],
  ])("of the form %s is that user's, in that user's home, in that VM", async (_form, name, user) => {
    const { ssh, vmId, token } = setting();
    const { code, stdout } = await ssh.ssh(name(vmId, token), "id -un; pwd; cat /etc/hostname");
    expect(code).toBe(0);
    expect(stdout.toString().split("\n").slice(0, 2)).toEqual([user, user === "root" ? "/root" : `/home/${user}`]);
  });

  test.each(["password", "keyboard-interactive"] as const)("with a token as the answer to %s alone is let in", async (method) => {
    const { ssh, vmId, token } = setting();
    for (const [name, user] of [
      [vmId, "root"],
      [`${vmId}+alice`, "alice"],
    ] as const) {
      const { code, stdout, stderr } = await ssh.sshAnswering(name, token, "id -un", method);
      expect([code, stdout.toString()], stderr).toEqual([0, `${user}\n`]);
    }
  });

  test("without a token in the name asks for it at the terminal and runs a shell there", async () => {
    const { ssh, vmId, token } = setting();
    const terminal = ssh.sshOnTerminal(`${vmId}+alice`);
    await terminal.expectSecretPrompt();
    terminal.type(token);
    await terminal.expect(/[#$] /);
    terminal.type("id -un; tty");
    await terminal.expect(/alice\r\n\/dev\/pts\/\d/);
    terminal.type("exit 5");
    expect(await terminal.exitCode()).toBe(5);
    expect(terminal.screen).not.toContain(token);
  });

  test.each([
    ["as it comes", "aes128-gcm@openssh.com", []],
    ["without AES-GCM", "chacha20-poly1305@openssh.com", ["-c", "chacha20-poly1305@openssh.com"]],
    ["of a company that allows nothing else", "aes256-ctr", ["-c", "aes256-ctr"]],
  ])("of an OpenSSH %s is encrypted by %s", async (_how, cipher, flags) => {
    const { ssh, root } = setting();
    const { code, stderr } = await ssh.ssh(root, "true", { flags: ["-v", ...flags] });
    expect(code, stderr).toBe(0);
    expect([...stderr.matchAll(/kex: \S+ cipher: (\S+)/g)].map(([, name]) => name)).toEqual([cipher, cipher]);
  });

  test("of a client that knows nothing but the published host keys goes to the gateway without a question, and to no other", async () => {
    const { root } = setting();
    const ssh = new SshClient(system, "yes");
    onTestFinished(() => ssh.close());
    expect(await ssh.ssh(root, "id -un")).toMatchObject({ code: 0, stdout: Buffer.from("root\n") });
    const other = generateSshKeyPair(platformRandomBytes).publicKey;
    writeFileSync(ssh.knownHosts, readFileSync(ssh.knownHosts, "utf8").replace(/ssh-ed25519 \S+/, other));
    const refused = await ssh.ssh(root, "id -un");
    expect(refused).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
    expect(refused.stderr).toContain("Host key verification failed.");
  });

  test("with a wrong token at the prompt is asked again, and the right one still opens", async () => {
    const { ssh, vmId, token } = setting();
    const terminal = ssh.sshOnTerminal(vmId);
    await terminal.expectSecretPrompt();
    terminal.type(`pst_${"a".repeat(46)}`);
    await terminal.expectSecretPrompt();
    terminal.type(token);
    await terminal.expect(/# /);
    terminal.type("exit");
    expect(await terminal.exitCode()).toBe(0);
  });
});

describe("a login is refused", () => {
  test("with a token that is wrong in any way", async () => {
    const { ssh, vmId, token } = setting();
    const changed = `${token.slice(0, -1)}${token.endsWith("a") ? "b" : "a"}`;
    for (const wrong of [changed, `pst_${"a".repeat(46)}`, "nonsense", token.slice(0, -1), `${token}a`]) {
      expect(await ssh.ssh(`${vmId}:${wrong}`, "id"), wrong).toMatchObject(REFUSED);
    }
  });

  test.each(["password", "keyboard-interactive"] as const)(
    "with a wrong token as the answer to %s alone, with the reason",
    async (method) => {
      const { ssh, vmId } = setting();
      const refusal = await ssh.sshAnswering(vmId, `pst_${"a".repeat(46)}`, "id", method);
      expect(refusal).toMatchObject(REFUSED);
      expect(refusal.stderr).toContain("This credential is not valid.");
    },
  );

  test("with an empty token, and with none and nobody to ask", async () => {
    const { ssh, vmId } = setting();
    expect(await ssh.ssh(`${vmId}:`, "id")).toMatchObject(REFUSED);
    expect(await ssh.ssh(vmId, "id")).toMatchObject(REFUSED);
  });

  test("with a user name of another form", async () => {
    const { ssh, vmId, token } = setting();
    for (const name of [
      "root",
      `${vmId.slice(1)}:${token}`,
      `${vmId}+Alice:${token}`,
      `${vmId}+-x:${token}`,
      `${vmId}+:${token}`,
    ]) {
      expect(await ssh.ssh(name, "id"), name).toMatchObject(REFUSED);
    }
  });

  test("to another account's VM exactly as to one that does not exist", async () => {
    const { ssh, vmId, owner } = setting();
    const ungranted = await testIdentity(owner);
    const refusals = await Promise.all([
      ssh.ssh(`${vmId}:${ungranted.token}`, "id"),
      ssh.ssh(`${ABSENT_VM}:${ungranted.token}`, "id"),
    ]);
    for (const refusal of refusals) expect(refusal).toMatchObject(REFUSED);
    const [existing, absent] = refusals.map(({ stderr }) => stderr.replaceAll(vmId, "VM").replaceAll(ABSENT_VM, "VM"));
    expect(existing).toBe(absent);
    const { apiKey } = await newAccount();
    expect(await ssh.ssh(`${vmId}:${apiKey}`, "id")).toMatchObject(REFUSED);
  });

  test("as a Linux user outside the grant, root by default included, naming those inside", async () => {
    const { ssh, vmId, owner } = setting();
    const { token } = await testIdentity(owner, [{ vmId, allowedUsers: ["alice"] }]);
    expect((await ssh.ssh(`${vmId}+alice:${token}`, "id -un")).stdout.toString()).toBe("alice\n");
    for (const name of [vmId, `${vmId}+root`, `${vmId}+bob`, `${vmId}+mallory`]) {
      const refusal = await ssh.ssh(`${name}:${token}`, "id");
      expect(refusal, name).toMatchObject(REFUSED);
      expect(refusal.stderr, name).toContain("alice");
    }
  });

  test("as a Linux user that the VM does not have, saying so", async () => {
    const { ssh, vmId, token } = setting();
    const refusal = await ssh.ssh(`${vmId}+mallory:${token}`, "id");
    expect(refusal).toMatchObject(REFUSED);
    expect(refusal.stderr).toContain("mallory");
  });

  test("with a revoked token, and the person is told why", async () => {
    const { ssh, vmId, holder } = setting();
    const { token, tokenId } = await holder.identity.tokens.create();
    expect(await ssh.ssh(`${vmId}:${token}`, "true")).toMatchObject({ code: 0 });
    await holder.identity.tokens.revoke({ tokenId });
    const refusal = await ssh.ssh(`${vmId}:${token}`, "id");
    expect(refusal).toMatchObject(REFUSED);
    const [said, ...rest] = refusal.stderr.trim().split("\n");
    expect(said).toMatch(/revoked/);
    // OpenSSH itself names the whole user field when it gives up; the ingress names no token.
    expect([said, ...rest.slice(0, -1)].join("\n")).not.toContain(token);
  });
});
