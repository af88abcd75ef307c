import { expect, test } from "vitest";
import { testIdentity } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { type SshSetting, sshSetting } from "../system/ssh-fixture.ts";

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
    expect(session.errors).not.toBe("");
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
