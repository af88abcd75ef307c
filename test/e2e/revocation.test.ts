import { expect, onTestFinished, test } from "vitest";
import { ApiClient } from "../../bin/operator.ts";
import { deleteVm, keyClient, newAccount, system, testIdentity, testVm } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { PACKAGE_46 } from "../system/sdk.ts";
import { type SshSetting, sshSetting } from "../system/ssh-fixture.ts";
import { wire } from "../system/wire.ts";

const setting = sshSetting();

/** The promise with the feed up, from the answer to whoever takes the access away. */
const PROMISE_MS = 2_000;
/** What `ssh` may take to say why and to exit, on a busy machine. */
const EXIT_ALLOWANCE_MS = 1_000;
const START_DEADLINE_MS = 15_000;

const REVOKED = "Your access to this VM was revoked.";

/** A session that says it is live and then gives back what it is sent. */
async function liveSession({ ssh, vmId }: Pick<SshSetting, "ssh" | "vmId">, token: string, user = "root") {
  const session = ssh.sshInBackground(`${vmId}+${user}:${token}`, "echo live; exec cat");
  onTestFinished(() => session.kill());
  await until("the session is live", START_DEADLINE_MS, () => (session.output === "live\n" ? true : undefined));
  return session;
}

type Session = Awaited<ReturnType<typeof liveSession>>;

/** Takes the access away and has the session end as promised, by a DISCONNECT whose reason the person can read. */
async function expectCut(session: Session, takeAway: () => Promise<unknown>, reason = REVOKED): Promise<void> {
  await takeAway();
  const since = Date.now();
  await until("the session is cut", PROMISE_MS + EXIT_ALLOWANCE_MS, () => session.process.exitCode ?? undefined);
  const { code, stderr } = await session.finished;
  expect(code).toBe(255);
  expect(stderr).toMatch(/^Received disconnect from \S+ port \d+:\d+: /m);
  expect(stderr).toContain(reason);
  expect(Date.now() - since).toBeLessThan(PROMISE_MS + EXIT_ALLOWANCE_MS);
}

async function expectAlive(session: Session): Promise<void> {
  session.process.stdin.write("still here\n");
  await until("the session answers", START_DEADLINE_MS, () => (session.output.endsWith("still here\n") ? true : undefined));
}

test("a live session is cut when its token is revoked, and the identity's other sessions go on", async () => {
  const { owner, vmId } = setting();
  const { identity, token, tokenId } = await testIdentity(owner, [{ vmId }]);
  const other = await liveSession(setting(), (await identity.tokens.create()).token);
  const session = await liveSession(setting(), token);
  await expectCut(session, () => identity.tokens.revoke({ tokenId }));
  await expectAlive(other);
});

test("live sessions of every Linux user are cut when their grant is revoked", async () => {
  const { owner, vmId } = setting();
  const { identity, token } = await testIdentity(owner, [{ vmId }]);
  const [root, alice] = await Promise.all([liveSession(setting(), token), liveSession(setting(), token, "alice")]);
  await expectCut(root, () => identity.permissions.vms.revoke({ vmId }));
  await expectCut(alice, () => Promise.resolve());
});

test("when a grant is narrowed, sessions of users who lost it are cut and the others go on", async () => {
  const { owner, vmId } = setting();
  const { identity, token } = await testIdentity(owner, [{ vmId }]);
  const root = await liveSession(setting(), token);
  const alice = await liveSession(setting(), token, "alice");
  await expectCut(root, () => identity.permissions.vms.update({ vmId, allowedUsers: ["alice"] }));
  await expectAlive(alice);
});

test("a live session is cut when its identity is deleted", async () => {
  const { owner, vmId } = setting();
  const { identityId, token } = await testIdentity(owner, [{ vmId }]);
  const session = await liveSession(setting(), token);
  await expectCut(session, () => owner.identities.delete({ identityId }));
});

test("a live session is cut when its VM is moved to another account, and later when the VM is deleted", async () => {
  const { owner, ssh } = setting();
  const { vmId } = await testVm(owner);
  const { token } = await testIdentity(owner, [{ vmId }]);
  const moved = await liveSession({ ssh, vmId }, token);
  const { accountId, apiKey } = await newAccount();
  const operator = new ApiClient(system.apiUrl, system.operatorKey);
  await expectCut(moved, () => operator.request("POST", `/operator/v1/vms/${vmId}/transfer`, { accountId }));
  const newOwner = keyClient(PACKAGE_46, apiKey);
  const session = await liveSession({ ssh, vmId }, (await testIdentity(newOwner, [{ vmId }])).token);
  // Whichever comes first: the end of its tunnel, or the floor of the deleted VM.
  await expectCut(session, () => deleteVm(newOwner, vmId), "");
  expect(session.errors).toMatch(/The VM was deleted\.|Your access to this VM was revoked\./);
});

test("an account lists its SSH sessions and closes one, which is told so; another account can do neither", async () => {
  const { apiKey } = await newAccount();
  const owner = keyClient(PACKAGE_46, apiKey);
  const { vmId } = await testVm(owner, { users: [{ name: "alice" }] });
  const { token, tokenId, identityId } = await testIdentity(owner, [{ vmId }]);
  const { ssh } = setting();
  const closed = await liveSession({ ssh, vmId }, token, "alice");
  const other = await liveSession({ ssh, vmId }, token);
  const listed = () => wire("GET", "/v5/ssh-sessions", { apiKey });
  const sessions = await until("both are listed", START_DEADLINE_MS, async () => {
    const found = (await listed()).json.sessions as { id: string; linuxUser: string }[];
    return found.length === 2 ? found : undefined;
  });
  const row = sessions.find(({ linuxUser }) => linuxUser === "alice");
  expect(row).toMatchObject({ vmId, identityId, credentialId: tokenId, clientAddress: "127.0.0.1" });
  const stranger = await newAccount();
  expect((await wire("GET", "/v5/ssh-sessions", stranger)).json).toEqual({ sessions: [] });
  expect(await wire("DELETE", `/v5/ssh-sessions/${row?.id}`, stranger)).toMatchObject({ status: 404 });
  const close = async () => expect((await wire("DELETE", `/v5/ssh-sessions/${row?.id}`, { apiKey })).status).toBeLessThan(300);
  await expectCut(closed, close, "This session was closed by its account.");
  await until("one is left", START_DEADLINE_MS, async () =>
    ((await listed()).json.sessions as object[]).length === 1 ? true : undefined,
  );
  await expectAlive(other);
});
