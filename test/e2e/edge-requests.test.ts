import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { readPong } from "../../protocol/feed.ts";
import type { BackgroundCommand, Finished } from "../system/command.ts";
import { EdgeProxy, FAITHFUL } from "../system/edge-proxy.ts";
import { system, testIdentity } from "../system/fixture.ts";
import { type ForwarderHere, startForwarderHere } from "../system/forwarder-here.ts";
import { until } from "../system/poll.ts";
import { SshClient } from "../system/ssh-client.ts";
import { sshSetting } from "../system/ssh-fixture.ts";
import { wire } from "../system/wire.ts";

/** What a forwarder asks of the edge for the logins and sessions of OpenSSH, and what it does when the edge says nothing. */

const DEADLINE_MS = 20_000;
const SECOND_MS = 1_000;
const IN = { code: 0, stdout: Buffer.from("root\n") };

const setting = sshSetting();

/** How far the forwarder's clock is ahead of everybody else's. */
let aheadMs: number;
let edge: EdgeProxy;
let forwarder: ForwarderHere;
let ssh: SshClient;
beforeEach(async () => {
  aheadMs = 0;
  edge = await EdgeProxy.start(system.apiUrl);
  forwarder = await startForwarderHere(system, {
    edgeUrl: edge.url,
    aheadMs: () => aheadMs,
    env: { POSTERN_SILENT_RECHECK_MS: "200" },
  });
  ssh = new SshClient(forwarder);
});
afterEach(async () => {
  ssh.close();
  await forwarder.stop();
  await edge.stop();
});

const asked = (what = "") => edge.asked.filter(({ path }) => path.includes(what)).length;
const logIn = (): Promise<Finished> => ssh.ssh(setting().root, "id -un");

/** Moves the forwarder's clock on, and waits until a heartbeat since then was answered. */
async function passTime(ms: number): Promise<void> {
  aheadMs += ms;
  let answered = 0;
  edge.fault = (text) => {
    if (readPong(text) !== undefined) answered += 1;
    return FAITHFUL(text);
  };
  // The first may be of a heartbeat before.
  await until("its region has answered", DEADLINE_MS, () => (answered >= 2 ? true : undefined));
}

test("six connections of an editor at once cost one question to the edge", async () => {
  let answer: () => void = () => undefined;
  edge.held = new Promise((resolve) => {
    answer = resolve;
  });
  const logins = Array.from({ length: 6 }, () => ssh.sshInBackground(setting().root, "id -un", ["-v"]));
  for (const login of logins) {
    onTestFinished(() => login.kill());
    await until("it asks to log in", DEADLINE_MS, () => (login.errors.includes("SSH2_MSG_SERVICE_ACCEPT") ? true : undefined));
  }
  answer();
  for (const login of logins) expect(await login.finished).toMatchObject(IN);
  expect(asked("ssh-tickets")).toBe(1);
});

test("later connections use the ticket of the first one until shortly before it ends, and then the edge is asked again", async () => {
  for (const [after, questions] of [
    [0, 1],
    [0, 1],
    [45 * SECOND_MS, 1],
    [10 * SECOND_MS, 2],
  ] as const) {
    if (after > 0) await passTime(after);
    expect(await logIn()).toMatchObject(IN);
    expect(asked("ssh-tickets")).toBe(questions);
  }
});

test.each([
  ["access token", () => ({ token: setting().token })],
  ["API key", () => ({ apiKey: setting().apiKey })],
])("a ticket that was minted by %s is taken as the password without any request to the edge", async (_by, credential) => {
  const { vmId } = setting();
  const { json } = await wire("POST", `/v5/vms/${vmId}/ssh-ticket`, credential(), { linuxUser: "alice" });
  await until("the ticket keys were fetched", DEADLINE_MS, () => (asked("jwks.json") > 0 ? true : undefined));
  const before = asked();
  const shown = await ssh.sshAnswering(String(json.user), String(json.ticket), "id -un");
  expect(shown, shown.stderr).toMatchObject({ code: 0, stdout: Buffer.from("alice\n") });
  expect(asked()).toBe(before);
});

test("while the feed is silent the edge is asked about live sessions: a revoked one is cut, and others go on", async () => {
  const { owner, vmId } = setting();
  const [revoked, other] = [await testIdentity(owner, [{ vmId }]), await testIdentity(owner, [{ vmId }])];
  const [cut, kept] = await Promise.all([revoked, other].map(({ token }) => liveSession(`${vmId}:${token}`)));
  edge.fault = () => [];
  await revoked.identity.tokens.revoke({ tokenId: revoked.tokenId });
  // Longer than a feed that works is ever silent.
  aheadMs += 6 * SECOND_MS;
  expect(await cut?.finished).toMatchObject({ code: 255, stderr: expect.stringContaining("Your access to this VM was revoked.") });
  await until("the other one was asked about too", DEADLINE_MS, () => (asked("session-checks") >= 2 ? true : undefined));
  kept?.process.stdin.end("still here\n");
  expect(await kept?.finished).toMatchObject({ code: 0, stdout: Buffer.from("live\nstill here\n") });
});

async function liveSession(user: string): Promise<BackgroundCommand> {
  const session = ssh.sshInBackground(user, "echo live; exec cat");
  onTestFinished(() => session.kill());
  await until("it is live", DEADLINE_MS, () => (session.output === "live\n" ? true : undefined));
  return session;
}
