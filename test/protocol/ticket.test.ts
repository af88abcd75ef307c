import { generateKeyPair, generateSecret, SignJWT, UnsecuredJWT } from "jose";
import { expect, test } from "vitest";
import { checkTicket, forwarderAudience, hostAudience, signTicket, TICKET_TYPE } from "../../protocol/ticket.ts";
import { AUDIENCE, goodClaims, ISSUER, KEY_ID, NOW, newSigner, type Signer, sign } from "./support/tickets.ts";

const signer = await newSigner();

async function reasonFor(ticket: string, now = NOW, by: Signer = signer): Promise<string> {
  const checked = await checkTicket(ticket, { getKey: by.getKey, issuer: ISSUER, audience: AUDIENCE, now });
  return checked.ok ? "accepted" : checked.reason;
}

/** A JWT with these claims and header members, signed with the right key. */
function jwt(claims: object, header: object = {}): Promise<string> {
  return new SignJWT({ ...claims })
    .setProtectedHeader({ alg: "EdDSA", typ: TICKET_TYPE, kid: KEY_ID, ...header })
    .sign(signer.privateKey);
}

test("a good ticket is accepted and says what was signed", async () => {
  const claims = goodClaims();
  const ticket = await signTicket(claims, signer.privateKey, KEY_ID);
  const checked = await checkTicket(ticket, { getKey: signer.getKey, issuer: ISSUER, audience: AUDIENCE, now: NOW });
  expect(checked).toEqual({ ok: true, claims });
});

test.each(["", ".", "..", "a.b.c", "x".repeat(1000), "e30.e30.", "pst_aaaa", "{}", "\u0000"])("%j is malformed", async (text) => {
  expect(await reasonFor(text)).toMatch(/malformed|type/);
});

test("a token of another type is refused before its signature is looked at", async () => {
  expect(await reasonFor(await jwt(goodClaims(), { typ: "JWT" }))).toBe("type");
  expect(await reasonFor(await jwt(goodClaims(), { typ: undefined }))).toBe("type");
});

test("no algorithm but the pinned one is believed, none least of all", async () => {
  const claims = { ...goodClaims() };
  const secret = await generateSecret("HS256");
  const symmetric = await new SignJWT(claims).setProtectedHeader({ alg: "HS256", typ: TICKET_TYPE, kid: KEY_ID }).sign(secret);
  expect(await reasonFor(symmetric)).toBe("algorithm");
  const [, body] = new UnsecuredJWT(claims).encode().split(".");
  const header = Buffer.from(JSON.stringify({ alg: "none", typ: TICKET_TYPE })).toString("base64url");
  expect(await reasonFor(`${header}.${body}.`)).toBe("algorithm");
  const elliptic = await generateKeyPair("ES256");
  const other = await new SignJWT(claims)
    .setProtectedHeader({ alg: "ES256", typ: TICKET_TYPE, kid: KEY_ID })
    .sign(elliptic.privateKey);
  expect(await reasonFor(other)).toBe("algorithm");
});

test("a key that is not in the set is unknown, and a wrong key under a known name is a bad signature", async () => {
  expect(await reasonFor(await signTicket(goodClaims(), signer.privateKey, "key-2"))).toBe("unknown-key");
  expect(await reasonFor(await sign(await newSigner()))).toBe("signature");
});

test("changed claims are a bad signature", async () => {
  const [header, , signature] = (await sign(signer)).split(".");
  const body = Buffer.from(JSON.stringify(goodClaims({ user: "admin" }))).toString("base64url");
  expect(await reasonFor(`${header}.${body}.${signature}`)).toBe("signature");
});

test("another issuer and another audience are refused by name", async () => {
  expect(await reasonFor(await sign(signer, { iss: "https://evil.test" }))).toBe("issuer");
  expect(await reasonFor(await sign(signer, { aud: ["host:otherotherother2"] }))).toBe("audience");
  expect(await reasonFor(await sign(signer, { aud: [forwarderAudience("eu")] }))).toBe("audience");
  expect(hostAudience("x")).not.toBe(forwarderAudience("x"));
});

test("times are held to with five seconds of tolerance and no more", async () => {
  const ticket = await sign(signer);
  const at = (seconds: number) => reasonFor(ticket, NOW + seconds * 1000);
  expect([await at(64), await at(66), await at(-5), await at(-6)]).toEqual(["accepted", "expired", "accepted", "not-yet-valid"]);
});

test("a ticket that claims a longer life than a minute is refused", async () => {
  const now = NOW / 1000;
  expect(await reasonFor(await sign(signer, { exp: now + 61 }))).toBe("lifetime");
  expect(await reasonFor(await sign(signer, { exp: now + 60 }))).toBe("accepted");
});

test.each([
  ["sub", "root"],
  ["sub", "identity:short"],
  ["jti", "short"],
  ["vm", "short"],
  ["vm", "../../etc/passwd/xxxx"],
  ["user", "Root"],
  ["user", "a,b"],
  ["op", "everything"],
  ["epoch", -1],
  ["epoch", 1.5],
  ["read_at", "now"],
  ["azp", "anyone"],
  ["host_url", "nowhere"],
  ["cred", "c".repeat(65)],
  ["cnf", { jkt: "x" }],
  ["aud", AUDIENCE],
])("a signed ticket whose %s is %j is refused", async (name, value) => {
  expect(await reasonFor(await jwt({ ...goodClaims(), [name]: value }))).toBe("claims");
});

test.each(["sub", "jti", "vm", "user", "op", "epoch", "read_at", "iat", "exp", "azp", "host_url", "cred"])(
  "a signed ticket without %s is refused",
  async (name) => {
    const claims = Object.fromEntries(Object.entries(goodClaims()).filter(([key]) => key !== name));
    expect(await reasonFor(await jwt(claims))).toBe("claims");
  },
);

test("a key set that cannot be fetched is not the ticket's fault", async () => {
  const broken = { ...signer, getKey: () => Promise.reject(new Error("down")) };
  expect(await reasonFor(await sign(signer), NOW, broken)).toBe("keys-unavailable");
});
