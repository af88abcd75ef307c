import { reset, runInDurableObject } from "cloudflare:test";
import { createLocalJWKSet, type JSONWebKeySet } from "jose";
import { afterEach, describe, expect, it } from "vitest";
import type { Verdict } from "../../durable-objects/contract.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { checkTicket, forwarderAudience, hostAudience } from "../../protocol/ticket.ts";
import type { TicketOptions } from "../../worker/tickets/claims.ts";
import { mintTicket } from "../../worker/tickets/mint.ts";
import { currentSigner, forgetSigner } from "../../worker/tickets/signer.ts";
import { bindings, freshName, freshVmId, setClock } from "../durable-objects/objects.ts";

const NOW = 1_900_000_000_500;
const HOST = freshName();
const keys = () => bindings.SIGNING_KEYS.getByName("ticket-keys");

const verdict: Verdict = {
  subject: `identity:${freshName()}`,
  accountId: freshName(),
  credentialId: freshName(),
  vmId: freshVmId(),
  operation: "exec",
  linuxUser: "developer",
  epoch: 7,
  readAt: NOW - 1_700,
  expiresAt: null,
  grant: null,
};

const options: TicketOptions = {
  hostId: HOST,
  hostUrl: "http://127.0.0.1:1",
  accountEpoch: 3,
  vmEpoch: 4,
  azp: "edge",
  now: NOW,
  randomBytes: platformRandomBytes,
};

afterEach(async () => {
  await reset();
  forgetSigner();
});

async function check(ticket: string, expected: { audience?: string; issuer?: string; now?: number } = {}) {
  const getKey = createLocalJWKSet((await keys().jwks()) as unknown as JSONWebKeySet);
  return checkTicket(ticket, { getKey, issuer: "postern", audience: hostAudience(HOST), now: NOW, ...expected });
}

describe("a minted ticket", () => {
  it("says what the verdict says, in whole seconds, and passes the verifier's checks", async () => {
    const { ticket, claims } = await mintTicket(bindings, verdict, options);
    expect(await check(ticket)).toEqual({ ok: true, claims });
    expect(claims).toMatchObject({
      iss: "postern",
      aud: [hostAudience(HOST)],
      sub: verdict.subject,
      vm: verdict.vmId,
      user: "developer",
      op: "exec",
      epoch: 7,
      acct_epoch: 3,
      vm_epoch: 4,
      read_at: 1_899_999_998,
      iat: 1_900_000_000,
      exp: 1_900_000_060,
      azp: "edge",
      host_url: "http://127.0.0.1:1",
      cred: verdict.credentialId,
    });
    expect(claims.cnf).toBeUndefined();
  });

  it("is refused by another host, another issuer's verifier, any forwarder, and after its time", async () => {
    const { ticket } = await mintTicket(bindings, verdict, options);
    expect(await check(ticket, { audience: hostAudience(freshName()) })).toEqual({ ok: false, reason: "audience" });
    expect(await check(ticket, { audience: forwarderAudience("local") })).toEqual({ ok: false, reason: "audience" });
    expect(await check(ticket, { issuer: "other" })).toEqual({ ok: false, reason: "issuer" });
    expect(await check(ticket, { now: NOW + 65_000 })).toEqual({ ok: false, reason: "expired" });
    expect(await check(ticket, { now: NOW - 7_000 })).toEqual({ ok: false, reason: "not-yet-valid" });
  });

  it("for a region is good at its forwarders too, and carries the key that may use it", async () => {
    const cnf = { ssh: "SHA256:abc" };
    const made = await mintTicket(bindings, verdict, { ...options, forwarderRegion: "local", azp: "client", cnf });
    expect(made.claims).toMatchObject({ aud: [hostAudience(HOST), forwarderAudience("local")], azp: "client", cnf });
    expect((await check(made.ticket, { audience: forwarderAudience("local") })).ok).toBe(true);
    expect((await check(made.ticket, { audience: forwarderAudience("elsewhere") })).ok).toBe(false);
  });

  it("never lives longer than the limit, nor than the credential behind it", async () => {
    const long = await mintTicket(bindings, verdict, { ...options, lifeS: 3_600 });
    expect(long.claims.exp - long.claims.iat).toBe(60);
    const short = await mintTicket(bindings, verdict, { ...options, lifeS: 10 });
    expect(short.claims.exp - short.claims.iat).toBe(10);
    const ending = await mintTicket(bindings, { ...verdict, expiresAt: NOW + 5_000 }, options);
    expect(ending.claims.exp).toBe(1_900_000_005);
    // Sessions go by it, and none may end before its time: the next whole second.
    expect(ending.claims.cred_exp).toBe(1_900_000_006);
    expect(long.claims).not.toHaveProperty("cred_exp");
  });

  it("has an id of its own", async () => {
    const made = await Promise.all(Array.from({ length: 20 }, () => mintTicket(bindings, verdict, options)));
    expect(new Set(made.map(({ claims }) => claims.jti)).size).toBe(20);
  });
});

describe("the signing key in memory", () => {
  it("is fetched once however many ask, and again when its time is over", async () => {
    await setClock(keys(), NOW);
    const signers = await Promise.all(Array.from({ length: 20 }, () => currentSigner(bindings, NOW)));
    const [signer] = signers;
    if (signer === undefined) throw new Error("no signer");
    expect(new Set(signers.map((one) => one.key)).size).toBe(1);
    expect(await currentSigner(bindings, signer.keepUntil - 1)).toBe(signer);
    expect(await currentSigner(bindings, signer.keepUntil)).not.toBe(signer);
  });

  it("is the new one as soon as that signs", async () => {
    await setClock(keys(), NOW);
    const before = await currentSigner(bindings, NOW);
    const { kid, signsFrom } = await keys().rotate();
    await setClock(keys(), signsFrom);
    expect((await currentSigner(bindings, signsFrom)).kid).toBe(kid);
    expect(before.kid).not.toBe(kid);
  });

  it("cannot be taken out of the isolate's memory", async () => {
    const { key } = await currentSigner(bindings, Date.now());
    await expect(crypto.subtle.exportKey("jwk", key as CryptoKey)).rejects.toThrow();
  });

  it("that cannot be had fails the mint, and the next try starts afresh", async () => {
    await keys().jwks();
    const rename = (from: string, to: string) =>
      runInDurableObject(keys(), (_object, state) => state.storage.sql.exec(`ALTER TABLE ${from} RENAME TO ${to}`).toArray());
    await rename("keys", "keys_broken");
    await expect(mintTicket(bindings, verdict, options)).rejects.toThrow();
    await rename("keys_broken", "keys");
    expect((await check((await mintTicket(bindings, verdict, options)).ticket)).ok).toBe(true);
  });
});
