import { createLocalJWKSet, type JSONWebKeySet } from "jose";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Verdict } from "../../durable-objects/contract.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import type { FeedDownstream } from "../../protocol/feed.ts";
import { newObjectName } from "../../protocol/ids.ts";
import { forwarderAudience, hostAudience, ticketKeyId } from "../../protocol/ticket.ts";
import { TicketVerifier } from "../../protocol/verifier.ts";
import { forgetTickets } from "../../worker/services/edge-tickets.ts";
import { mintTicket } from "../../worker/tickets/mint.ts";
import { forgetSigner } from "../../worker/tickets/signer.ts";
import { bindings, setSettings } from "../durable-objects/objects.ts";
import { call, type Identity, must, newIdentity, newVm, OPERATOR_KEY, openWorld, type World } from "./support/world.ts";

/** Least time between two fetches of a verifier here; what it is in a deployment stands in `DEFAULT_MEMBERSHIP_TIMES`. */
const MAX_AGE_MS = 50;

let world: World;
let vmId: string;
let identity: Identity;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
  identity = await newIdentity(world.account, [vmId]);
});
beforeEach(() => {
  forgetSigner();
  forgetTickets();
});

const operator = <T>(path: string) => must<T>(`/operator/v1/signing-keys/${path}`, { method: "POST", key: OPERATOR_KEY });
/** Withdraws every key as another instance of the Worker does: this one is not told. */
const voidElsewhere = () => bindings.SIGNING_KEYS.getByName("ticket-keys").voidAll();
const jwks = () => must<JSONWebKeySet>("/.well-known/jwks.json");
const exec = () =>
  call(`/v1/vms/${vmId}/exec-await`, { method: "POST", token: identity.token, body: { command: "true", terminal: null } });

/** A verifier as a host has one, that keeps the key set for a moment only. */
function verifierOf(audience: string): TicketVerifier {
  let kept: { keys: ReturnType<typeof createLocalJWKSet>; at: number } | null = null;
  const verifier = new TicketVerifier({
    getKey: async (header, token) => {
      if (kept === null || Date.now() - kept.at > MAX_AGE_MS) kept = { keys: createLocalJWKSet(await jwks()), at: Date.now() };
      return kept.keys(header, token);
    },
    issuer: "postern",
    audience,
    clock: Date.now,
  });
  verifier.feedHeard();
  return verifier;
}

const verdict = (): Verdict => ({
  subject: `identity:${identity.id}`,
  accountId: world.account.accountId,
  credentialId: identity.tokenId,
  vmId,
  operation: "ssh",
  linuxUser: "root",
  epoch: 1,
  readAt: Date.now(),
  expiresAt: null,
  grant: null,
});
const mint = async () => {
  const options = { hostId: world.host.id, hostUrl: world.host.url, azp: "edge", now: Date.now() } as const;
  const minted = await mintTicket(bindings, verdict(), {
    ...options,
    forwarderRegion: "local",
    accountEpoch: 1,
    vmEpoch: 1,
    randomBytes: platformRandomBytes,
  });
  return minted.ticket;
};

it("a rotation under load refuses nobody: every ticket is good at a host and a forwarder, before, during and after", async () => {
  const keys = bindings.SIGNING_KEYS.getByName("ticket-keys");
  await setSettings(keys, { KEY_PUBLISH_LEAD_MS: 4 * MAX_AGE_MS, KEY_HOLD_MS: 2 * MAX_AGE_MS });
  const verifiers = [verifierOf(hostAudience(world.host.id)), verifierOf(forwarderAudience("local"))];
  const signers = new Set<string>();
  const refusals: string[] = [];
  const load = async (until: () => boolean) => {
    while (!until()) {
      const ticket = await mint();
      signers.add(ticketKeyId(ticket) ?? "none");
      for (const verifier of verifiers) {
        verifier.feedHeard();
        const checked = await verifier.verify(ticket);
        if (!checked.ok) refusals.push(checked.reason);
      }
      const answer = await exec();
      if (answer.status !== 200) refusals.push(`exec answered ${answer.status}`);
      await answer.body?.cancel();
    }
  };
  await load(() => signers.size === 1);
  for (let rotation = 1; rotation <= 3; rotation += 1) {
    const { kid } = await operator<{ kid: string }>("rotate");
    await Promise.all([1, 2, 3, 4].map(() => load(() => signers.has(kid))));
  }
  expect(refusals).toEqual([]);
  expect(signers.size).toBe(4);
});

describe("when every key is withdrawn", () => {
  /** A verifier's end of the feed: what it was told, and when. */
  async function listen(hello: object, assertion: string) {
    const { webSocket: socket } = await call("/service/v1/feed", { key: assertion, headers: { upgrade: "websocket" } });
    if (socket === null) throw new Error("no feed");
    const told: { message: FeedDownstream; at: number }[] = [];
    const heard = Promise.withResolvers<void>();
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(String(data)) as FeedDownstream;
      told.push({ message, at: Date.now() });
      if (message.type === "keys-voided") heard.resolve();
    });
    const welcomed = new Promise((resolve) => socket.addEventListener("message", resolve, { once: true }));
    socket.accept();
    socket.send(JSON.stringify(hello));
    await welcomed;
    return { socket, told, heard: heard.promise };
  }
  const forwarderHello = () => ({ type: "hello", role: "forwarder", id: newObjectName(platformRandomBytes), version: "1" });

  it("every verifier is told within 2 s, and whoever joins later knows", async () => {
    const member = await listen(forwarderHello(), await world.forwarder.assertion());
    const before = await mint();
    const began = Date.now();
    const { kid, voided, untold } = await operator<{ kid: string; voided: string[]; untold: string[] }>("void");
    await member.heard;
    expect(Date.now() - began).toBeLessThan(2_000);
    expect(untold).toEqual([]);
    expect(voided).toContain(ticketKeyId(before));
    expect(member.told.at(-1)?.message).toMatchObject({ type: "keys-voided", kids: expect.arrayContaining(voided) });
    expect((await jwks()).keys.map((key) => key.kid)).toEqual([kid]);
    const late = await listen(forwarderHello(), await world.forwarder.assertion());
    expect(late.told[0]?.message).toMatchObject({ type: "welcome", voidedKeys: expect.arrayContaining(voided) });
    for (const { socket } of [member, late]) socket.close();
  });

  it("an edge that still holds the old key signs with the new one once a host says so, and the caller notices nothing", async () => {
    const first = await exec();
    expect(first.status).toBe(200);
    await first.body?.cancel();
    const { kid, voided } = await voidElsewhere();
    const shown = world.host.shownKeys.length;
    const answer = await exec();
    expect(answer.status).toBe(200);
    expect(world.host.shownKeys.slice(shown)).toEqual([voided.at(-1), kid]);
  });

  it("a client's ticket is of the new key at once, where the edge was told so", async () => {
    const path = `/v5/vms/${vmId}/ssh-ticket`;
    const ticket = async () => (await must<{ ticket: string }>(path, { method: "POST", token: identity.token, body: {} })).ticket;
    const old = ticketKeyId(await ticket());
    const { kid, voided } = await operator<{ kid: string; voided: string[] }>("void");
    expect(voided).toContain(old);
    expect(ticketKeyId(await ticket())).toBe(kid);
  });

  it("a forwarder that says so gets a ticket of the new key", async () => {
    const login = async (more: object) => {
      const body = {
        vmId,
        linuxUser: null,
        token: identity.token,
        forwarderId: "f".repeat(16),
        clientAddress: "192.0.2.1",
        ...more,
      };
      const key = await world.forwarder.assertion();
      return ticketKeyId((await must<{ ticket: string }>("/service/v1/ssh-tickets", { method: "POST", key, body })).ticket);
    };
    const old = await login({});
    const { kid } = await voidElsewhere();
    expect(await login({ fresh: true, voidedKey: old ?? undefined })).toBe(kid);
  });
});
