import { afterEach, expect, test } from "vitest";
import { DEFAULT_VERIFIER_LIMITS } from "../../../protocol/verifier.ts";
import { type Running, until } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
afterEach(() => world.close());

/** A session that runs until it is ended. */
async function liveSession(token = world.token): Promise<Running> {
  const ssh = world.startSsh(world.ssh(`${world.vmId}:${token}`, "echo up; cat"), { input: "open" });
  await until("the session is live", () => ssh.stdout().includes("up"));
  return ssh;
}

async function goesOn(ssh: Running): Promise<void> {
  ssh.child.stdin?.write("still here\n");
  await until("the session goes on", () => ssh.stdout().includes("still here"));
  ssh.child.stdin?.end();
  expect((await ssh.done).code).toBe(0);
}

test("a revocation cuts the live session with a message, and no session of another subject", async () => {
  world = await openWorld();
  world.edge.addToken("pst_bystander", world.vmId);
  const [victim, bystander] = [await liveSession(), await liveSession("pst_bystander")];
  world.grant.revoked = true;
  world.edge.raiseFloor(world.grant);
  const result = await victim.done;
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("Your access to this VM was revoked.");
  await until("its tunnel is closed", () => world.host.openTunnels === 1);
  await goesOn(bystander);
});

test("when the ticket keys are withdrawn every live session is checked, and those that still may go on do", async () => {
  world = await openWorld();
  const gone = world.edge.addToken("pst_gone", world.vmId);
  const [kept, cut] = [await liveSession(), await liveSession("pst_gone")];
  gone.revoked = true;
  world.edge.push({ type: "keys-voided", kids: ["some-key"] });
  expect((await cut.done).stderr).toContain("Your access to this VM was revoked.");
  await goesOn(kept);
});

test("a ticket of a withdrawn key logs nobody in, and a token's login asks for one of the key that signs now", async () => {
  world = await openWorld();
  const ticket = await world.edge.ticket(world.grant);
  world.edge.push({ type: "keys-voided", kids: ["test-key"] });
  await until("the keys are fetched anew", () => world.edge.keyFetches > 0);
  const byTicket = await world.startSsh(world.ssh(`${world.vmId}:${ticket}`, "true")).done;
  expect(byTicket.code).toBe(255);
  const byToken = await world.startSsh(world.ssh(`${world.vmId}:${world.token}`, "true")).done;
  expect(byToken.code).toBe(255);
  expect(world.edge.ticketRequests.slice(0, 2).map(({ fresh, voidedKey }) => [fresh, voidedKey])).toEqual([
    [false, undefined],
    [true, "test-key"],
  ]);
});

test("a floor that does not concern the session's own token leaves it alone", async () => {
  world = await openWorld();
  const ssh = await liveSession();
  world.edge.raiseFloor(world.grant);
  await until("the edge was asked", () => world.edge.sessionChecks === 1);
  await goesOn(ssh);
});

test("a revocation while the VM wakes ends the waiting session", async () => {
  world = await openWorld();
  world.host.waking = new Promise(() => undefined);
  const ssh = world.startSsh(world.ssh(`${world.vmId}:${world.token}`, "cat"), { input: "open" });
  await until("the tunnel is asked for", () => world.host.openTunnels === 1);
  world.grant.revoked = true;
  world.edge.raiseFloor(world.grant);
  const result = await ssh.done;
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("Your access to this VM was revoked.");
});

test("a session under a floor is cut when the edge stays out of reach", async () => {
  world = await openWorld({ env: { POSTERN_RECHECK_DEADLINE_MS: "500", POSTERN_RECHECK_RETRY_MS: "50" } });
  const ssh = await liveSession();
  world.edge.raiseFloor(world.grant);
  await world.edge.stop();
  const result = await ssh.done;
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("Your access could not be confirmed");
});

test("sessions outlive an edge that is down while no floor is known", async () => {
  world = await openWorld({
    env: { POSTERN_SILENT_RECHECK_MS: "50" },
    verifierLimits: { ...DEFAULT_VERIFIER_LIMITS, feedSilenceMs: 100 },
  });
  const ssh = await liveSession();
  await world.edge.stop();
  await until("checks were tried and failed", () => world.log.filter((line) => line.includes("session-checks")).length >= 3);
  await goesOn(ssh);
});

test("while the feed is silent live sessions are asked about, and a revoked one is cut", async () => {
  world = await openWorld({
    env: { POSTERN_SILENT_RECHECK_MS: "50" },
    verifierLimits: { ...DEFAULT_VERIFIER_LIMITS, feedSilenceMs: 100 },
  });
  const ssh = await liveSession();
  world.edge.feedSilent = true;
  world.grant.revoked = true;
  world.edge.raiseFloor(world.grant);
  const result = await ssh.done;
  expect(result.stderr).toContain("Your access to this VM was revoked.");
});

test("a stop lets a live session finish and takes no new one", async () => {
  world = await openWorld();
  const ssh = await liveSession();
  const stopped = world.stopForwarder(10_000);
  expect((await world.exec("true")).code).toBe(255);
  await goesOn(ssh);
  await stopped;
});

test("a session still live at the drain deadline is told why it ends", async () => {
  world = await openWorld();
  const ssh = await liveSession();
  await world.stopForwarder(100);
  const result = await ssh.done;
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("This gateway is about to restart.");
});

test("a session whose tunnel the host cut is told the host's reason", async () => {
  world = await openWorld();
  const ssh = await liveSession();
  world.host.endReason = "The VM was stopped.";
  world.host.breakTunnels();
  const result = await ssh.done;
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("The VM was stopped.");
});

test("a session whose host went away is told to connect again, and one whose VM closed the connection that it was lost", async () => {
  world = await openWorld();
  const lost = await liveSession();
  world.host.breakTunnels();
  expect((await lost.done).stderr).toContain("The connection to the VM was lost.");
  const ssh = await liveSession();
  await world.host.stop();
  const result = await ssh.done;
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("Connect again in a moment.");
});

test("a client that leaves takes its connection in the VM with it, without a word that could wake one that sleeps", async () => {
  world = await openWorld();
  const ssh = await liveSession();
  const heard = world.host.bytesToVm;
  ssh.child.kill("SIGKILL");
  await until("its tunnel is closed", () => world.host.openTunnels === 0);
  expect(world.host.bytesToVm).toBe(heard);
});
