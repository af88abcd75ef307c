import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { BackgroundCommand } from "../system/command.ts";
import { FAITHFUL } from "../system/edge-proxy.ts";
import { until } from "../system/poll.ts";
import { type Holder, SshWorld } from "./ssh-world.ts";

/** The bounds of `docs/consistency.md`, in milliseconds, and what `ssh` may take to say why it ends. */
const FEED_UP_MS = 2_000;
const FEED_DOWN_MS = 20_000;
const EXIT_MS = 1_000;
/** Less than by default, so that the test need not wait for that. */
const SILENT_RECHECK_MS = 3_000;
const SLOW_MACHINE_MS = 30_000;

const UNAVAILABLE = "Nothing is wrong with your token: try again in a moment.";
const REVOKED = "Your access to this VM was revoked.";

let world: SshWorld;
beforeAll(async () => {
  world = await SshWorld.open({ POSTERN_SILENT_RECHECK_MS: String(SILENT_RECHECK_MS) });
});
afterAll(() => world.close());
beforeEach(async () => {
  world.proxy.fault = FAITHFUL;
  await world.clock.setOff(0);
});

async function liveSession(holder: Pick<Holder, "token">) {
  const session = world.session(holder);
  await until("the session is live", SLOW_MACHINE_MS, () => (session.output === "live\n" ? true : undefined));
  return session;
}

async function expectAlive(session: BackgroundCommand): Promise<void> {
  session.process.stdin.end("still here\n");
  expect(await session.finished).toMatchObject({ code: 0, stdout: Buffer.from("live\nstill here\n") });
}

/** Lets in, or says that it is no fault of the token: how a login of somebody who may can come out. */
async function isServed(holder: Holder): Promise<boolean> {
  const { code, stdout, stderr } = await world.login(holder);
  if (code === 0) expect(stdout.toString()).toBe("in\n");
  else expect({ code, stderr }).toMatchObject({ code: 255, stderr: expect.stringContaining(UNAVAILABLE) });
  return code === 0;
}

describe("a live SSH session at its token's own end", () => {
  const DEAF = () => [];
  test.each([
    ["while the feed is up", FEED_UP_MS, FAITHFUL, false],
    ["while the feed is dead", FEED_DOWN_MS, DEAF, false],
    ["while its forwarder can reach nothing of the edge", FEED_DOWN_MS, DEAF, true],
  ] as const)("%s is cut, not before, and in time; another goes on", async (_when, boundMs, fault, isCutOff) => {
    const lifeMs = 6_000;
    const other = await liveSession(await world.newHolder());
    const madeAt = performance.now();
    const brief = await world.newHolder(lifeMs / 1_000);
    const session = await liveSession(brief);
    world.proxy.fault = fault;
    const whole = Promise.withResolvers<void>();
    if (isCutOff) world.proxy.held = whole.promise;
    onTestFinished(() => whole.resolve());
    const { code, stderr } = await session.finished;
    const age = performance.now() - madeAt;
    expect(code).toBe(255);
    expect(stderr).toContain(REVOKED);
    expect(age).toBeGreaterThan(lifeMs);
    expect(age).toBeLessThan(lifeMs + boundMs + EXIT_MS);
    await expectAlive(other);
  });
});

test("an API key that is revoked is refused at its forwarder, its live session is cut, and another key's goes on", async () => {
  const [revoked, standing] = [await world.newKey(), await world.newKey()];
  const [cut, kept] = [await liveSession({ token: revoked.apiKey }), await liveSession({ token: standing.apiKey })];
  await world.revokeKey(revoked.keyId);
  const revokedAt = performance.now();
  expect(await world.login({ token: revoked.apiKey })).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
  expect(await cut.finished).toMatchObject({ code: 255, stderr: expect.stringContaining(REVOKED) });
  expect(performance.now() - revokedAt).toBeLessThan(FEED_UP_MS + EXIT_MS);
  await expectAlive(kept);
});

test("an emergency rotation voids tickets in clients' hands within 2 s; sessions and logins by token go on", async () => {
  const holder = await world.newHolder();
  const session = await liveSession(holder);
  const { user, ticket } = await world.ticket(holder);
  await world.edge.operator.request("POST", "/operator/v1/signing-keys/void");
  const voidedAt = performance.now();
  const terminal = world.ssh.sshOnTerminal(user, ["-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1"]);
  await terminal.expectSecretPrompt();
  expect(performance.now() - voidedAt).toBeLessThan(FEED_UP_MS);
  terminal.type(ticket);
  expect(await terminal.exitCode()).toBe(255);
  expect(terminal.screen).toContain("The ticket counts for nothing any more.");
  expect(await isServed(holder)).toBe(true);
  await expectAlive(session);
});

describe.each([30_000, -30_000])("a forwarder whose clock jumps by %i ms", (offMs) => {
  test("goes by its region's: it serves who may, refuses who may not, and cuts who may no longer", async () => {
    const [standing, revoked] = [await world.newHolder(), await world.newHolder()];
    const [kept, cut] = [await liveSession(standing), await liveSession(revoked)];
    await world.clock.setOff(offMs);
    // One that is set ahead asks its region for the time first.
    await until("it serves", SLOW_MACHINE_MS, async () => ((await isServed(standing)) ? true : undefined));
    await world.revoke(revoked);
    const revokedAt = performance.now();
    expect(await world.login(revoked)).toMatchObject({ code: 255, stdout: Buffer.alloc(0) });
    expect(await cut.finished).toMatchObject({ code: 255, stderr: expect.stringContaining(REVOKED) });
    expect(performance.now() - revokedAt).toBeLessThan(FEED_UP_MS + EXIT_MS);
    expect(await isServed(standing)).toBe(true);
    await world.clock.setOff(0);
    await until("it serves again", SLOW_MACHINE_MS, async () => ((await isServed(standing)) ? true : undefined));
    await expectAlive(kept);
  });
});
