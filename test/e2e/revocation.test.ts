import { expect, test } from "vitest";
import { deleteVm, keyClient, newAccount, testIdentity, testVm } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { PACKAGE_46 } from "../system/sdk.ts";
import { type SshSetting, sshSetting } from "../system/ssh-fixture.ts";
import { wire } from "../system/wire.ts";

const setting = sshSetting();

/** The promise with the feed up is 2 s; the rest is for a busy machine. */
const CUT_DEADLINE_MS = 15_000;

/** A session that says it is live and then stays. */
async function liveSession({ ssh, vmId }: SshSetting, token: string, user = "root") {
  const session = ssh.sshInBackground(`${vmId}+${user}:${token}`, "echo live; exec sleep 600");
  await until("the session is live", CUT_DEADLINE_MS, () => (session.output === "live\n" ? true : undefined));
  return session;
}

async function expectCut(session: Awaited<ReturnType<typeof liveSession>>): Promise<void> {
  try {
    await until("the session is cut", CUT_DEADLINE_MS, () => (session.process.exitCode === null ? undefined : true));
    expect(session.process.exitCode).toBe(255);
    expect(session.errors).toMatch(/Your access to this VM was revoked|connection to the VM was lost|closed by its account/);
  } finally {
    await session.kill();
  }
}

test("a live session is cut when its token is revoked, and the identity's other sessions go on", async () => {
  const { owner, vmId } = setting();
  const { identity, token, tokenId } = await testIdentity(owner, [{ vmId }]);
  const other = await liveSession(setting(), (await identity.tokens.create()).token);
  const session = await liveSession(setting(), token);
  await identity.tokens.revoke({ tokenId });
  await expectCut(session);
  expect(other.process.exitCode).toBe(null);
  await other.kill();
});

test("a live session is cut when its grant is revoked", async () => {
  const { owner, vmId } = setting();
  const { identity, token } = await testIdentity(owner, [{ vmId }]);
  const session = await liveSession(setting(), token);
  await identity.permissions.vms.revoke({ vmId });
  await expectCut(session);
});

test("when a grant is narrowed, sessions of users who lost it are cut and the others go on", async () => {
  const { owner, vmId } = setting();
  const { identity, token } = await testIdentity(owner, [{ vmId }]);
  const root = await liveSession(setting(), token);
  const alice = await liveSession(setting(), token, "alice");
  await identity.permissions.vms.update({ vmId, allowedUsers: ["alice"] });
  await expectCut(root);
  expect(alice.process.exitCode).toBe(null);
  await alice.kill();
});

test("a live session is cut when its identity is deleted", async () => {
  const { owner, vmId } = setting();
  const { identityId, token } = await testIdentity(owner, [{ vmId }]);
  const session = await liveSession(setting(), token);
  await owner.identities.delete({ identityId });
  await expectCut(session);
});

test("a live session is cut when its VM is deleted, with a readable reason", async () => {
  const { owner, ssh } = setting();
  const { vmId } = await testVm(owner);
  const { token } = await testIdentity(owner, [{ vmId }]);
  const session = await liveSession({ ...setting(), ssh, vmId }, token);
  await deleteVm(owner, vmId);
  await expectCut(session);
  // Whichever comes first: the end of its tunnel, or the floor of the deleted VM.
  expect(session.errors).toMatch(/The connection to the VM was lost\.|Your access to this VM was revoked\./);
});

test("an account lists its SSH sessions and closes one, which is told so; another account can do neither", async () => {
  const { apiKey } = await newAccount();
  const owner = keyClient(PACKAGE_46, apiKey);
  const { vmId } = await testVm(owner, { users: [{ name: "alice" }] });
  const { token, tokenId, identityId } = await testIdentity(owner, [{ vmId }]);
  const closed = await liveSession({ ...setting(), vmId }, token, "alice");
  const other = await liveSession({ ...setting(), vmId }, token);
  try {
    const listed = () => wire("GET", "/v5/ssh-sessions", { apiKey });
    const sessions = await until("both are listed", CUT_DEADLINE_MS, async () => {
      const found = (await listed()).json.sessions as { id: string; linuxUser: string }[];
      return found.length === 2 ? found : undefined;
    });
    const row = sessions.find(({ linuxUser }) => linuxUser === "alice");
    expect(row).toMatchObject({ vmId, identityId, credentialId: tokenId, clientAddress: "127.0.0.1" });
    const stranger = await newAccount();
    expect((await wire("GET", "/v5/ssh-sessions", stranger)).json).toEqual({ sessions: [] });
    expect(await wire("DELETE", `/v5/ssh-sessions/${row?.id}`, stranger)).toMatchObject({ status: 404 });
    expect((await wire("DELETE", `/v5/ssh-sessions/${row?.id}`, { apiKey })).status).toBeLessThan(300);
    await expectCut(closed);
    expect(closed.errors).toContain("This session was closed by its account.");
    await until("one is left", CUT_DEADLINE_MS, async () =>
      ((await listed()).json.sessions as object[]).length === 1 ? true : undefined,
    );
    expect(other.process.exitCode).toBe(null);
  } finally {
    await other.kill();
  }
});
