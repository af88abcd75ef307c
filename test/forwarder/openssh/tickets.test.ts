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

test("a ticket as the password logs in, and nobody is asked", async () => {
  const result = await show(await world.edge.ticket(world.grant));
  expect(result.stdout.toString()).toBe("root\n");
  expect(world.edge.ticketRequests).toEqual([]);
});

test("a ticket logs in while the edge is down", async () => {
  const ticket = await world.edge.ticket(world.grant);
  expect((await show(await world.edge.ticket(world.grant))).code).toBe(0);
  await world.edge.stop();
  expect((await show(ticket)).stdout.toString()).toBe("root\n");
});

test("a ticket logs in once", async () => {
  const ticket = await world.edge.ticket(world.grant);
  expect((await show(ticket)).code).toBe(0);
  const again = await show(ticket);
  expect(again.code).toBe(255);
  expect(again.stderr).toContain("has been used already");
  expect(world.host.tunnels).toHaveLength(1);
});

test("a ticket's own Linux user is used when the login names none, and must match when it does", async () => {
  const named = await show(await world.edge.ticket(world.grant, { user: "root" }), `${world.vmId}+root`);
  expect(named.code).toBe(0);
  const other = await show(await world.edge.ticket(world.grant, { user: "root" }), `${world.vmId}+developer`);
  expect(other.code).toBe(255);
  expect(other.stderr).toContain("not accepted for this VM and Linux user");
});

const wrong: [string, (now: number) => Partial<TicketClaims>, string][] = [
  ["another VM", () => ({ vm: "e".repeat(20) }), "not accepted"],
  ["another operation", () => ({ op: "exec" }), "not accepted"],
  ["no Linux user", () => ({ user: null }), "not accepted"],
  ["another region's forwarders", () => ({ aud: ["host:hosthosthosthost", "forwarder:elsewhere"] }), "not accepted"],
  ["hosts only", () => ({ aud: ["host:hosthosthosthost"] }), "not accepted"],
  ["another issuer", () => ({ iss: "https://elsewhere.test" }), "not accepted"],
  ["the edge's own use", () => ({ azp: "edge" }), "not accepted"],
  ["a forwarder's use", () => ({ azp: "forwarder:aaaaaaaaaaaaaaaa" }), "not accepted"],
  ["one key only", () => ({ cnf: { ssh: "SHA256:abc" } }), "not accepted"],
  ["the past", (now) => ({ iat: now - 120, exp: now - 60, read_at: now - 120 }), "has expired"],
  ["too long a life", (now) => ({ exp: now + 3600 }), "not accepted"],
];

test.each(wrong)("a ticket for %s is refused without a tunnel", async (_what, changes, text) => {
  const result = await show(await world.edge.ticket(world.grant, changes(Math.floor(Date.now() / 1000))));
  expect(result.code).toBe(255);
  expect(result.stderr).toContain(text);
  expect(world.host.tunnels).toEqual([]);
  expect(world.edge.ticketRequests).toEqual([]);
});

test("a ticket whose signature was changed is refused", async () => {
  const [header, , signature] = (await world.edge.ticket(world.grant)).split(".");
  const other = (await world.edge.ticket(world.grant, { user: "daemon" })).split(".")[1];
  const result = await show(`${header}.${other}.${signature}`);
  expect(result.code).toBe(255);
  expect(world.host.tunnels).toEqual([]);
});

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
