import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { openProxyConnection } from "../../bin/ssh/proxy-connection.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { BackgroundCommand, run } from "../system/command.ts";
import { newAccount, system, testIdentity } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import type { PtyCommand } from "../system/pty.ts";
import { type SshSetting, sshSetting } from "../system/ssh-fixture.ts";
import { wire } from "../system/wire.ts";

const POSTERN = fileURLToPath(new URL("../../bin/postern.ts", import.meta.url));

const DEADLINE_MS = 20_000;

const setting = sshSetting();

/** Mints a ticket and checks the parts of the answer that a person or a program would use. */
async function mintTicket(token: string, body: object = {}): Promise<{ ticket: string; user: string }> {
  const { vmId } = setting();
  const answer = await wire("POST", `/v5/vms/${vmId}/ssh-ticket`, { token }, body);
  expect(answer.status).toBe(200);
  expect(answer.json).toMatchObject({
    ticket: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+$/),
    expiresAt: expect.any(String),
    user: expect.stringContaining(vmId),
    host: expect.any(String),
    port: expect.any(Number),
    command: expect.stringContaining("ssh"),
  });
  expect(String(answer.json.command)).not.toContain(String(answer.json.ticket));
  return answer.json as { ticket: string; user: string };
}

async function askedFor({ ssh }: SshSetting, user: string, secret: string): Promise<PtyCommand> {
  const terminal = ssh.sshOnTerminal(user, ["-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1"]);
  await terminal.expectSecretPrompt();
  terminal.type(secret);
  return terminal;
}

test("a ticket is taken as the password once, and refused when shown again", async () => {
  const { ticket, user } = await mintTicket(setting().token);
  const first = await askedFor(setting(), user, ticket);
  await first.expect(/# /);
  first.type("exit 6");
  expect(await first.exitCode()).toBe(6);
  const second = await askedFor(setting(), user, ticket);
  expect(await second.exitCode()).toBe(255);
  expect(second.screen).toMatch(/used already/);
});

test("a ticket for a Linux user opens that user's shell and no other", async () => {
  const { vmId, token } = setting();
  const own = await mintTicket(token, { linuxUser: "alice" });
  expect(own.user).toBe(`${vmId}+alice`);
  const other = await askedFor(setting(), `${vmId}+root`, own.ticket);
  expect(await other.exitCode()).toBe(255);
  const fresh = await mintTicket(token, { linuxUser: "alice" });
  const alice = await askedFor(setting(), fresh.user, fresh.ticket);
  await alice.expect(/\$ /);
  alice.type("id -un; exit");
  await alice.expect(/alice\r\n/);
  expect(await alice.exitCode()).toBe(0);
});

test("a changed ticket is refused", async () => {
  const { ticket, user } = await mintTicket(setting().token);
  const [header = "", payload = "", signature = ""] = ticket.split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as object;
  const changed = Buffer.from(JSON.stringify({ ...claims, user: "bob" })).toString("base64url");
  const terminal = await askedFor(setting(), user, `${header}.${changed}.${signature}`);
  expect(await terminal.exitCode()).toBe(255);
});

test("a ticket minted before its token was revoked is refused", async () => {
  const { holder } = setting();
  const { token, tokenId } = await holder.identity.tokens.create();
  const { ticket, user } = await mintTicket(token);
  await holder.identity.tokens.revoke({ tokenId });
  const terminal = await askedFor(setting(), user, ticket);
  expect(await terminal.exitCode()).toBe(255);
});

test("no ticket is minted for a VM that was not granted, a user outside the grant, or nobody", async () => {
  const { owner, vmId } = setting();
  const path = `/v5/vms/${vmId}/ssh-ticket`;
  const ungranted = await testIdentity(owner);
  expect(await wire("POST", path, { token: ungranted.token }, {})).toMatchObject({ status: 404, json: { code: "NOT_FOUND" } });
  const restricted = await testIdentity(owner, [{ vmId, allowedUsers: ["alice"] }]);
  expect(await wire("POST", path, { token: restricted.token }, {})).toMatchObject({ status: 403 });
  expect(await wire("POST", path, { token: restricted.token }, { linuxUser: "bob" })).toMatchObject({ status: 403 });
  expect(await wire("POST", path, { token: restricted.token }, { linuxUser: "Bob;" })).toMatchObject({ status: 400 });
  expect(await wire("POST", path, null, {})).toMatchObject({ status: 401 });
  const { apiKey } = await newAccount();
  expect(await wire("POST", path, { apiKey }, {})).toMatchObject({ status: 404 });
});

describe("end to end", () => {
  /** The environment of a person who has a token in a file and nothing else. */
  function environment(token: string): NodeJS.ProcessEnv {
    const { folder } = setting().ssh;
    const tokenFile = join(folder, "token");
    writeFileSync(tokenFile, token, { mode: 0o600 });
    return {
      PATH: process.env.PATH,
      HOME: folder,
      POSTERN_API_URL: system.apiUrl,
      POSTERN_TOKEN_FILE: tokenFile,
      POSTERN_KNOWN_HOSTS: join(folder, "pinned"),
    };
  }

  test("`postern ssh` reaches the VM's own sshd as the Linux user, with input, output and exit code", async () => {
    const { vm, vmId, token, ssh } = setting();
    const result = await run(process.execPath, [POSTERN, "ssh", `${vmId}+alice`, "cat; id -un; exit 3"], {
      env: environment(token),
      input: "typed\n",
    });
    expect(result, result.stderr).toMatchObject({ code: 3, stdout: Buffer.from("typed\nalice\n") });
    // What the client checked was the VM's own key: nobody in the middle took part in the exchange.
    const { stdout: own = "" } = await vm.exec("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub");
    expect(readFileSync(join(ssh.folder, "pinned"), "utf8")).toBe(`${vmId} ${own}`);
  });

  test("a session ends when its token is revoked, and its ticket has opened nothing twice", async () => {
    const { vmId, holder } = setting();
    const { token, tokenId } = await holder.identity.tokens.create();
    const { publicKey } = generateSshKeyPair(platformRandomBytes);
    const { ticket } = await mintTicket(token, { publicKey });
    const open = () => openProxyConnection(system.sshHost, system.sshPort, ticket, publicKey);
    const { socket } = await open();
    onTestFinished(() => {
      socket.destroy();
    });
    await expect(open()).rejects.toThrow("has been used already");
    const session = new BackgroundCommand(process.execPath, [POSTERN, "ssh", vmId, "echo live; exec cat"], {
      env: environment(token),
    });
    onTestFinished(() => session.kill());
    await until("it is live", DEADLINE_MS, () => (session.output === "live\n" ? true : undefined));
    const closed = once(socket, "close");
    await holder.identity.tokens.revoke({ tokenId });
    expect(await session.finished).toMatchObject({ code: 255 });
    socket.resume();
    await closed;
  });

  test("the ProxyCommand of the document serves ssh and scp with a key of one's own, which is never admitted without a ticket", async () => {
    const { vmId, token, ssh } = setting();
    const key = join(ssh.folder, "own-key");
    await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
    const config = join(ssh.folder, "end-to-end-config");
    const proxy = `${process.execPath} ${POSTERN} ssh-proxy --key ${key}.pub --user %r %h`;
    const lines = [
      "Host *.postern",
      `  ProxyCommand ${proxy}`,
      `  IdentityFile ${key}`,
      "  IdentitiesOnly yes",
      `  UserKnownHostsFile ${join(ssh.folder, "pinned")}`,
      "  StrictHostKeyChecking yes",
      "  UpdateHostKeys no",
    ];
    writeFileSync(config, `${lines.join("\n")}\n`);
    const env = environment(token);
    const shell = await run("ssh", ["-F", config, `bob@${vmId}.postern`, "id -un"], { env });
    expect(shell.stdout.toString(), shell.stderr).toBe("bob\n");
    const copied = await run("scp", ["-F", config, "-q", "/etc/hostname", `bob@${vmId}.postern:copied`], { env });
    expect(copied, copied.stderr).toMatchObject({ code: 0 });
    const refused = await run("ssh", ["-F", config, `bob@${vmId}.postern`, "id"], { env: environment(`pst_${"a".repeat(46)}`) });
    expect(refused).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
  });
});
