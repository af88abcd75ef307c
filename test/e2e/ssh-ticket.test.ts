import { expect, test } from "vitest";
import { newAccount, testIdentity } from "../system/fixture.ts";
import type { PtyCommand } from "../system/pty.ts";
import { type SshSetting, sshSetting } from "../system/ssh-fixture.ts";
import { wire } from "../system/wire.ts";

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
