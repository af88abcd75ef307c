import { once } from "node:events";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import WebSocket from "ws";
import type { BackgroundCommand } from "../system/command.ts";
import { FAITHFUL } from "../system/edge-proxy.ts";
import { until } from "../system/poll.ts";
import type { SshClient } from "../system/ssh-client.ts";
import { SshWorld } from "./ssh-world.ts";

/** More than the 5 s for which a feed may be silent, and otherwise as little as can be told from that, in milliseconds. */
const BOUND_MS = 6_000;
/** By how much a session may end later: a look, a slow machine, and what `ssh` takes to say why. */
const LATE_MS = 3_000;
/** The last heartbeat that was answered was sent before the outage: by no more than this on a slow machine. */
const EARLY_MS = 2_000;
/** The host and two forwarders. */
const PARTS = 3;
const SLOW_MACHINE_MS = 30_000;
const OUT_OF_REACH = "Your access could not be confirmed for too long, so the session was ended. Connect again in a moment.";
const UNAVAILABLE = "Nothing is wrong with your token: try again in a moment.";

let world: SshWorld;
/** Of a forwarder that cuts nobody for an outage. */
let unbounded: SshClient;
beforeAll(async () => {
  const bound = { POSTERN_UNCONFIRMED_SESSION_MS: String(BOUND_MS) };
  // Logins give up sooner than by default, so that they are refused within the outage.
  world = await SshWorld.open({ ...bound, POSTERN_EDGE_TIMEOUT_MS: "500" }, bound);
  unbounded = await world.anotherForwarder({ POSTERN_UNCONFIRMED_SESSION_MS: "0" });
});
afterAll(() => world.close());

/** From now on nothing of the edge is reached; answers how to end that. */
function cutOff(): () => void {
  const whole = Promise.withResolvers<void>();
  world.proxy.fault = () => [];
  world.proxy.held = whole.promise;
  const end = () => {
    world.proxy.fault = FAITHFUL;
    world.proxy.held = Promise.resolve();
    whole.resolve();
  };
  onTestFinished(end);
  return end;
}

/** Everything is reached again; resolves once every part has joined anew. */
async function restored(endOutage: () => void): Promise<void> {
  let welcomes = 0;
  endOutage();
  world.proxy.fault = (text) => {
    if (text.startsWith('{"type":"welcome"')) welcomes += 1;
    return FAITHFUL(text);
  };
  world.proxy.cut();
  await until("every part has joined again", SLOW_MACHINE_MS, () => (welcomes >= PARTS ? true : undefined));
}

/** `at`: when it ended; `cutAt`: when nothing was reached any more. Milliseconds, by one clock. */
function expectAtBound(at: number, cutAt: number): void {
  expect(at - cutAt).toBeGreaterThan(BOUND_MS - EARLY_MS);
  expect(at - cutAt).toBeLessThan(BOUND_MS + LATE_MS);
}

async function liveSession(token: string, ssh?: SshClient): Promise<BackgroundCommand> {
  const session = world.session({ token }, ssh);
  onTestFinished(() => session.kill());
  await until("the session is live", SLOW_MACHINE_MS, () => (session.output === "live\n" ? true : undefined));
  return session;
}

async function echoes(session: BackgroundCommand, line: string): Promise<void> {
  session.process.stdin.write(`${line}\n`);
  await until("the session goes on", SLOW_MACHINE_MS, () => (session.output.endsWith(`${line}\n`) ? true : undefined));
}

/** A terminal, and what becomes of its socket. */
async function terminal(token: string) {
  const url = `${world.edge.url.replace(/^http/, "ws")}/v5/vms/${world.vmId}/pty`;
  const socket = new WebSocket(url, { headers: { "x-freestyle-identity-access-token": token } });
  onTestFinished(() => socket.terminate());
  await once(socket, "open");
  const closed = once(socket, "close").then(([code, reason]) => ({ code, reason: String(reason), at: performance.now() }));
  return { socket, closed };
}

test("live sessions go on through an outage shorter than their bound; a longer one ends them at it, with a reason, where one is set", async () => {
  const [{ token }, { apiKey }, late] = [await world.newHolder(), await world.newKey(), await world.newHolder()];
  const [byToken, byKey, kept, { socket, closed }] = await Promise.all([
    liveSession(token),
    liveSession(apiKey),
    liveSession(token, unbounded),
    terminal(token),
  ]);

  const endOutage = cutOff();
  world.proxy.cut();
  expect(await world.login(late)).toMatchObject({ code: 255, stderr: expect.stringContaining(UNAVAILABLE) });
  await restored(endOutage);
  for (const session of [byToken, byKey, kept]) await echoes(session, "after the short one");
  expect(socket.readyState).toBe(WebSocket.OPEN);

  cutOff();
  const cutAt = performance.now();
  const ends = [byToken, byKey].map(async (session) => ({ ...(await session.finished), at: performance.now() }));
  for (const { code, stderr, at } of await Promise.all(ends)) {
    expect({ code, stderr }).toMatchObject({ code: 255, stderr: expect.stringContaining(OUT_OF_REACH) });
    expectAtBound(at, cutAt);
  }
  const { at, ...end } = await closed;
  expect(end).toEqual({ code: 1008, reason: OUT_OF_REACH });
  expectAtBound(at, cutAt);
  await echoes(kept, "through the long one");
});
