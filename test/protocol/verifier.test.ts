import { expect, test } from "vitest";
import { tenantSubject, vmSubject } from "../../protocol/subjects.ts";
import type { TicketClaims } from "../../protocol/ticket.ts";
import { DEFAULT_VERIFIER_LIMITS, TicketVerifier, type VerifierLimits } from "../../protocol/verifier.ts";
import { AUDIENCE, goodClaims, ISSUER, NOW, newSigner, sign } from "./support/tickets.ts";

const signer = await newSigner();

/** A verifier that has just heard its feed, with a clock that the test moves. */
function open(limits: Partial<VerifierLimits> = {}) {
  const clock = { now: NOW };
  const verifier = new TicketVerifier({
    getKey: signer.getKey,
    issuer: ISSUER,
    audience: AUDIENCE,
    clock: () => clock.now,
    limits: { ...DEFAULT_VERIFIER_LIMITS, ...limits },
  });
  verifier.feedHeard();
  const show = async (ticket: string) => {
    const checked = await verifier.verify(ticket);
    return checked.ok ? "accepted" : checked.reason;
  };
  return { clock, verifier, show, make: (changes: Partial<TicketClaims> = {}) => sign(signer, changes) };
}

const client = { azp: "client" } as const;

test("a ticket in a client's hands is good once", async () => {
  const { show, make } = open();
  const ticket = await make(client);
  expect([await show(ticket), await show(ticket)]).toEqual(["accepted", "replayed"]);
});

test("the same ticket shown twice at the same moment is good once", async () => {
  const { show, make } = open();
  const ticket = await make(client);
  expect((await Promise.all([show(ticket), show(ticket)])).sort()).toEqual(["accepted", "replayed"]);
});

test("a ticket that only its sender holds may be used again", async () => {
  const { show, make } = open();
  for (const azp of ["edge", "forwarder:aaaaaaaaaaaaaaaa"] as const) {
    const ticket = await make({ azp });
    expect([await show(ticket), await show(ticket)]).toEqual(["accepted", "accepted"]);
  }
});

test("a used ticket is remembered for as long as it could be accepted", async () => {
  const { clock, show, verifier, make } = open();
  const ticket = await make(client);
  await show(ticket);
  clock.now += 64_000;
  verifier.feedHeard();
  expect(await show(ticket)).toBe("replayed");
  clock.now += 2_000;
  expect(await show(ticket)).toBe("expired");
});

test("a refused ticket is not used up", async () => {
  const { clock, show, verifier, make } = open();
  const ticket = await make({ ...client, read_at: NOW / 1000 - 20 });
  clock.now += 6_000;
  expect(await show(ticket)).toBe("stale-authority");
  verifier.feedHeard();
  expect(await show(ticket)).toBe("accepted");
});

test("when no more used tickets can be remembered, single-use ones are refused until some have expired", async () => {
  const { clock, show, verifier, make } = open({ maxReplayEntries: 2 });
  expect([await show(await make(client)), await show(await make(client))]).toEqual(["accepted", "accepted"]);
  expect(await show(await make(client))).toBe("replayed");
  expect(await show(await make())).toBe("accepted");
  clock.now += 66_000;
  verifier.feedHeard();
  const later = clock.now / 1000;
  expect(await show(await make({ ...client, iat: later, exp: later + 60, read_at: later }))).toBe("accepted");
});

test("a ticket from below its subject's floor is stale", async () => {
  const { show, verifier, make } = open();
  verifier.floors.raise({ sub: goodClaims().sub, epoch: 4, at: NOW });
  expect([await show(await make({ epoch: 3 })), await show(await make({ epoch: 4 }))]).toEqual(["stale-epoch", "accepted"]);
});

test("a floor outlives every ticket from before it", async () => {
  const { clock, show, verifier, make } = open();
  verifier.floors.raise({ sub: goodClaims().sub, epoch: 4, at: NOW });
  const ticket = await make({ epoch: 3 });
  clock.now += 64_000;
  verifier.feedHeard();
  expect(await show(ticket)).toBe("stale-epoch");
});

test("a silent feed is trusted for five seconds; then only fresh verdicts count", async () => {
  const { clock, show, verifier, make } = open();
  const old = await make({ read_at: NOW / 1000 - 30 });
  clock.now += 5_000;
  expect([verifier.isFeedFresh(), await show(old)]).toEqual([true, "accepted"]);
  clock.now += 1;
  expect([verifier.isFeedFresh(), await show(old)]).toEqual([false, "stale-authority"]);
  expect(await show(await make({ read_at: Math.floor(clock.now / 1000) - 14 }))).toBe("accepted");
  expect(await show(await make({ read_at: Math.floor(clock.now / 1000) - 16 }))).toBe("stale-authority");
});

test("a feed that has never spoken counts as silent", async () => {
  const verifier = new TicketVerifier({ getKey: signer.getKey, issuer: ISSUER, audience: AUDIENCE, clock: () => NOW });
  expect(verifier.isFeedFresh()).toBe(false);
  const checked = await verifier.verify(await sign(signer, { read_at: NOW / 1000 - 16 }));
  expect(checked).toEqual({ ok: false, reason: "stale-authority" });
});

test("a forged ticket uses nothing up and learns nothing about floors", async () => {
  const { show, verifier } = open();
  verifier.floors.raise({ sub: goodClaims().sub, epoch: 9, at: NOW });
  expect(await show(await sign(await newSigner(), client))).toBe("signature");
});

test.each([
  ["its account's suspension", { sub: tenantSubject("c".repeat(16)), epoch: 3 }, { acct: "c".repeat(16), acct_epoch: 2 }],
  ["its VM's deletion or move", { sub: vmSubject(goodClaims().vm), epoch: 3 }, { vm_epoch: 2 }],
  ["its VM's, when it names no epoch", { sub: vmSubject(goodClaims().vm), epoch: 1 }, {}],
] as const)("a ticket from before %s is stale, and one from after is good", async (_what, floor, claims) => {
  const { verifier, show, make } = open();
  verifier.floors.raise({ ...floor, at: NOW });
  expect(await show(await make(claims))).toBe("stale-epoch");
  expect(await show(await make({ ...claims, acct_epoch: floor.epoch, vm_epoch: floor.epoch }))).toBe("accepted");
});
