import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { readPong } from "../../protocol/feed.ts";
import type { BackgroundCommand } from "../system/command.ts";
import { EdgeProxy } from "../system/edge-proxy.ts";
import { system } from "../system/fixture.ts";
import { type ForwarderHere, startForwarderHere } from "../system/forwarder-here.ts";
import { until } from "../system/poll.ts";
import { SshClient } from "../system/ssh-client.ts";
import { sshSetting } from "../system/ssh-fixture.ts";

const HOUR_MS = 3_600_000;
/** The shortest of what a forwarder does every so often: its heartbeat to the region. */
const BEAT_MS = 1_500;
const ANSWER_DEADLINE_MS = 10_000;
const DEADLINE_MS = 30_000;

const setting = sshSetting();

/** How far the forwarder's clock is ahead of everybody else's. */
let aheadMs: number;
let edge: EdgeProxy;
let forwarder: ForwarderHere;
let ssh: SshClient;
beforeEach(async () => {
  aheadMs = 0;
  edge = await EdgeProxy.start(system.apiUrl);
  // All that the forwarder does every so often happens when the test says that it is time. Nobody else here does anything that way.
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  forwarder = await startForwarderHere(system, { edgeUrl: edge.url, aheadMs: () => aheadMs });
  ssh = new SshClient(forwarder);
});
afterEach(async () => {
  vi.useRealTimers();
  ssh.close();
  await forwarder.stop();
  await edge.stop();
});

/** One heartbeat of the forwarder and what else it is time for, until the region has answered. */
async function beat(): Promise<void> {
  const answered = new Promise<void>((resolve) => {
    edge.fault = (text) => {
      if (readPong(text) !== undefined) resolve();
      return [{ text, afterMs: 0 }];
    };
  });
  aheadMs += BEAT_MS;
  vi.advanceTimersByTime(BEAT_MS);
  const tooLate = pause(ANSWER_DEADLINE_MS, "late", { ref: false });
  if ((await Promise.race([answered, tooLate])) === "late") throw new Error("the region does not answer a heartbeat");
}

function idleSession(flags: readonly string[] = []): BackgroundCommand {
  const session = ssh.sshInBackground(setting().root, "cat", ["-vvv", ...flags]);
  onTestFinished(() => session.kill());
  return session;
}

const count = (session: BackgroundCommand, what: RegExp) => session.errors.match(what)?.length ?? 0;
const loggedIn = (session: BackgroundCommand) =>
  until("it is logged in", DEADLINE_MS, () => (session.errors.includes("Sending command") ? true : undefined));

test("sessions that are idle for an hour are kept alive by gateway, client and VM alike, get new keys, and go on", async () => {
  const { vm } = setting();
  const silent = idleSession();
  // One asks in each session: an answer to one's question is a sign of life that the other would have asked for.
  const asking = idleSession(["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"]);
  for (const session of [silent, asking]) await loggedIn(session);
  const config = "/etc/ssh/sshd_config.d/00-alive.conf";
  const lines = "ClientAliveInterval 1\\nClientAliveCountMax 2\\n";
  // Restarted, not reloaded: whoever comes right after a reload may still be served as before it. Open sessions go on.
  expect(await vm.exec(`printf '${lines}' >${config} && systemctl restart ssh`)).toMatchObject({ statusCode: 0 });
  const asked = idleSession();
  await loggedIn(asked);

  while (aheadMs < HOUR_MS) await beat();

  // More often than may go unanswered.
  await until("the client asked", DEADLINE_MS, () => (count(asking, /send packet: type 80/g) >= 4 ? true : undefined));
  await until("the VM asked", DEADLINE_MS, () => (count(asked, /rtype keepalive@openssh.com reply 1/g) >= 4 ? true : undefined));
  for (const session of [silent, asking, asked]) {
    await until("it has new keys", DEADLINE_MS, () => (count(session, /SSH2_MSG_NEWKEYS received/g) === 2 ? true : undefined));
    session.process.stdin.end("still here\n");
    expect(await session.finished).toMatchObject({ code: 0, stdout: Buffer.from("still here\n") });
  }
  // Once a minute, as it is set without a word of ours.
  const signs = count(silent, /Received SSH2_MSG_IGNORE/g);
  expect(signs).toBeGreaterThanOrEqual(55);
  expect(signs).toBeLessThanOrEqual(65);
  // It has been in the region all the time.
  expect(forwarder.log.filter(({ message }) => message === "joined region")).toHaveLength(1);
});
