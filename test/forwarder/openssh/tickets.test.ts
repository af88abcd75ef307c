import { afterEach, beforeEach, expect, test } from "vitest";
import type { TicketClaims } from "../../../protocol/ticket.ts";
import { DEFAULT_VERIFIER_LIMITS } from "../../../protocol/verifier.ts";
import { type Finished, run, until } from "../support/command.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world.close());

function show(ticket: string, user = world.vmId): Promise<Finished> {
  return run("ssh", ["-o", "NumberOfPasswordPrompts=1", "-o", "PreferredAuthentications=password", ...world.ssh(user, "whoami")], {
    env: world.answering(ticket),
  });
}

/** The forwarder has fetched the ticket keys, which it does by itself as soon as it has joined. */
async function keysKnown(): Promise<void> {
  await until("the keys were fetched", () => world.edge.requests > 0);
}

test("a ticket logs in while the edge is down, even if nobody has logged in before", async () => {
  const ticket = await world.edge.ticket(world.grant);
  await keysKnown();
  await world.edge.stop();
  expect((await show(ticket)).stdout.toString()).toBe("root\n");
});

test("a ticket that was minted before the edge went down is good although the keys would be fetched again by now", async () => {
  await world.close();
  world = await openWorld({ membershipTimes: { keySetMaxAgeMs: 200 } });
  await keysKnown();
  const ticket = await world.edge.ticket(world.grant);
  await world.edge.stop();
  const stopped = Date.now();
  await until("the keys are old", () => Date.now() - stopped > 400);
  expect((await show(ticket)).stdout.toString()).toBe("root\n");
});

test("a ticket's own Linux user is used when the login names none, and must match when it does", async () => {
  const named = await show(await world.edge.ticket(world.grant, { user: "root" }), `${world.vmId}+root`);
  expect(named.code).toBe(0);
  const other = await show(await world.edge.ticket(world.grant, { user: "root" }), `${world.vmId}+developer`);
  expect(other.code).toBe(255);
  expect(other.stderr).toContain("not accepted for this VM and Linux user");
});

const wrong: [string, (now: number) => Partial<TicketClaims>, string][] = [
  ["another operation", () => ({ op: "exec" }), "other-operation"],
  ["no Linux user", () => ({ user: null }), "other-user"],
  ["hosts only", () => ({ aud: ["host:hosthosthosthost"] }), "audience"],
  ["another issuer", () => ({ iss: "https://elsewhere.test" }), "issuer"],
  ["the edge's own use", () => ({ azp: "edge" }), "carrier"],
  ["a forwarder's use", () => ({ azp: "forwarder:aaaaaaaaaaaaaaaa" }), "carrier"],
  ["too long a life", (now) => ({ exp: now + 3600 }), "lifetime"],
];

test.each(wrong)("a ticket for %s is refused without a tunnel, and the log names why", async (_what, changes, reason) => {
  const ticket = await world.edge.ticket(world.grant, changes(Math.floor(Date.now() / 1000)));
  const result = await show(ticket, `${world.vmId}+root`);
  expect(result.code).toBe(255);
  expect(result.stderr).toContain("not accepted");
  expect(refusals()).toEqual([reason]);
  expect(world.host.tunnels).toEqual([]);
  expect(world.edge.ticketRequests).toEqual([]);
});

test("a ticket of a key that was rotated out is refused once the new keys are fetched, and one of the new key is taken at once", async () => {
  await world.close();
  world = await openWorld({ membershipTimes: { keySetMaxAgeMs: 200, keySetCooldownMs: 0, keySetTimeoutMs: 100 } });
  const ticket = await world.edge.ticket(world.grant);
  expect((await show(await world.edge.ticket(world.grant))).code).toBe(0);
  await world.edge.rotateKeys();
  expect((await show(await world.edge.ticket(world.grant))).code).toBe(0);
  expect((await show(ticket)).code).toBe(255);
  expect(refusals()).toEqual(["unknown-key"]);
});

/** The reasons that the log gives for refused tickets. */
function refusals(): string[] {
  return world.log
    .map((line) => JSON.parse(line) as { message: string; reason?: string })
    .flatMap(({ message, reason }) => (message === "ticket refused" && reason !== undefined ? [reason] : []));
}

test("a ticket from before a revocation is refused once the floor is known", async () => {
  const ticket = await world.edge.ticket(world.grant);
  expect((await show(await world.edge.ticket(world.grant))).code).toBe(0);
  world.edge.raiseFloor(world.grant);
  await until("the floor is known", async () => (await show(ticket)).stderr.includes("Access has changed"));
});

test("while the feed is silent an old verdict is not believed, and the person is told to try again", async () => {
  await world.close();
  world = await openWorld({ verifierLimits: { ...DEFAULT_VERIFIER_LIMITS, feedSilenceMs: 300 } });
  expect((await show(await world.edge.ticket(world.grant))).code).toBe(0);
  world.edge.feedSilent = true;
  const old = { read_at: Math.floor(Date.now() / 1000) - 20 };
  await until("the feed counts as silent", async () =>
    (await show(await world.edge.ticket(world.grant, old))).stderr.includes("try again in a moment"),
  );
  expect((await show(await world.edge.ticket(world.grant))).code).toBe(0);
});
