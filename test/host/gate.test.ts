import { createLocalJWKSet, exportJWK, generateKeyPair, SignJWT } from "jose";
import { beforeAll, describe, expect, test } from "vitest";
import { Gate } from "../../host/gate.ts";
import { hostAudience, signTicket, TICKET_TYPE, type TicketClaims } from "../../protocol/ticket.ts";
import { TicketVerifier } from "../../protocol/verifier.ts";
import { createLog } from "../../service/log.ts";
import { ISSUER, SUBJECT, saneClaims } from "./support/test-edge.ts";

const HOST = "h".repeat(16);
const VM = "a".repeat(20);

describe("gate", () => {
  let keys: Awaited<ReturnType<typeof generateKeyPair>>;
  beforeAll(async () => {
    keys = await generateKeyPair("EdDSA", { crv: "Ed25519" });
  });

  async function setUp() {
    let now = Date.now();
    const jwks = createLocalJWKSet({ keys: [{ ...(await exportJWK(keys.publicKey)), kid: "k" }] });
    const verifier = new TicketVerifier({ getKey: jwks, issuer: ISSUER, audience: hostAudience(HOST), clock: () => now });
    verifier.feedHeard();
    const lines: string[] = [];
    const log = createLog((line) => lines.push(line));
    const gate = new Gate(() => verifier);
    const show = async (authorization: string | undefined, operation: "exec" | "read" | "ssh" = "exec", vmId = VM) => {
      const admission = await gate.admit(authorization, { vmId, operation }, log);
      return admission.ok ? "admitted" : admission.failure.kind;
    };
    const signed = (claims: Partial<TicketClaims>) =>
      signTicket({ ...saneClaims(HOST), vm: VM, user: "root", op: "exec", ...claims }, keys.privateKey, "k");
    const reason = () => (JSON.parse(lines.at(-1) ?? "{}") as { reason?: string }).reason;
    const pass = (ms: number) => {
      now += ms;
    };
    return { verifier, gate, show, signed, reason, log, lines, pass };
  }

  test("admits a good ticket and acts as its user, not as the request's", async () => {
    const { gate, signed, log } = await setUp();
    const admission = await gate.admit(`Bearer ${await signed({ user: "developer" })}`, { vmId: VM, operation: "exec" }, log);
    expect(admission.ok && admission.value.linuxUser).toBe("developer");
  });

  test.each([
    undefined,
    "",
    "Bearer",
    "Bearer ",
    "Basic abc",
    "Bearer a b",
    `Bearer ${"x".repeat(9000)}`,
    "Bearer x.y.z",
    "Bearer ünüm",
  ])("refuses %j as authorization", async (authorization) => {
    const { show } = await setUp();
    expect(await show(authorization)).toBe("ticket-refused");
  });

  test.each<[string, Partial<TicketClaims>]>([
    ["audience", { aud: [hostAudience("g".repeat(16))] }],
    ["audience", { aud: ["forwarder:test"] }],
    ["issuer", { iss: "https://elsewhere.test" }],
    ["expired", { iat: 1_000, exp: 1_060 }],
    ["lifetime", { exp: Math.floor(Date.now() / 1000) + 3_600 }],
    ["not-yet-valid", { iat: Math.floor(Date.now() / 1000) + 50, exp: Math.floor(Date.now() / 1000) + 60 }],
    ["other-vm", { vm: "b".repeat(20) }],
    ["other-operation", { op: "files" }],
    ["other-operation", { op: "read", user: null }],
    ["user", { user: null }],
    ["confirmation", { cnf: { ssh: "SHA256:x" } }],
  ])("refuses a ticket for its %s, and says why in the log only", async (why, claims) => {
    const { show, signed, reason } = await setUp();
    expect([await show(`Bearer ${await signed(claims)}`), reason()]).toEqual(["ticket-refused", why]);
  });

  test.each<[string, Record<string, unknown>]>([
    ["user with shell characters", { user: "a;reboot" }],
    ["upper-case user", { user: "Root" }],
    ["unknown operation", { op: "own" }],
    ["vm with a slash", { vm: "../../../../../../.." }],
    ["negative epoch", { epoch: -1 }],
    ["missing subject", { sub: undefined }],
    ["subject of an unknown kind", { sub: "host:aaaaaaaaaaaaaaaa" }],
    ["missing jti", { jti: undefined }],
    ["carrier of an unknown kind", { azp: "anybody" }],
  ])("refuses a signed ticket with a wrong form: %s", async (_what, wrong) => {
    const { show } = await setUp();
    const claims = { ...saneClaims(HOST), vm: VM, user: "root", op: "exec", ...wrong };
    const header = { alg: "EdDSA", typ: TICKET_TYPE, kid: "k" };
    expect(await show(`Bearer ${await new SignJWT(claims).setProtectedHeader(header).sign(keys.privateKey)}`)).toBe(
      "ticket-refused",
    );
  });

  test("refuses a token of another type that the same key signed", async () => {
    const { show, reason } = await setUp();
    const jwt = new SignJWT({ ...saneClaims(HOST), vm: VM, user: "root", op: "exec" });
    const text = await jwt.setProtectedHeader({ alg: "EdDSA", typ: "JWT", kid: "k" }).sign(keys.privateKey);
    expect([await show(`Bearer ${text}`), reason()]).toEqual(["ticket-refused", "type"]);
  });

  test("refuses a ticket signed with a symmetric key made from the public one", async () => {
    const { show, reason } = await setUp();
    const secret = new TextEncoder().encode(JSON.stringify(await exportJWK(keys.publicKey)));
    const jwt = new SignJWT({ ...saneClaims(HOST), vm: VM, user: "root", op: "exec" });
    const text = await jwt.setProtectedHeader({ alg: "HS256", typ: TICKET_TYPE, kid: "k" }).sign(secret);
    expect([await show(`Bearer ${text}`), reason()]).toEqual(["ticket-refused", "algorithm"]);
  });

  test("refuses an unsigned ticket", async () => {
    const { show, signed, reason } = await setUp();
    const payload = (await signed({})).split(".")[1];
    const header = Buffer.from(JSON.stringify({ alg: "none", typ: TICKET_TYPE })).toString("base64url");
    expect([await show(`Bearer ${header}.${payload}.`), reason()]).toEqual(["ticket-refused", "algorithm"]);
  });

  test("refuses a ticket signed with another key", async () => {
    const { show, reason } = await setUp();
    const other = await generateKeyPair("EdDSA", { crv: "Ed25519" });
    const claims: TicketClaims = { ...saneClaims(HOST), vm: VM, user: "root", op: "exec" };
    expect([await show(`Bearer ${await signTicket(claims, other.privateKey, "k")}`), reason()]).toEqual([
      "ticket-refused",
      "signature",
    ]);
    expect([await show(`Bearer ${await signTicket(claims, other.privateKey, "other")}`), reason()]).toEqual([
      "ticket-refused",
      "unknown-key",
    ]);
  });

  test("refuses a ticket whose claims were changed after signing", async () => {
    const { show, signed, reason } = await setUp();
    const [header, payload, signature] = (await signed({ user: "developer" })).split(".");
    const claims = JSON.parse(Buffer.from(payload ?? "", "base64url").toString()) as object;
    const changed = Buffer.from(JSON.stringify({ ...claims, user: "root" })).toString("base64url");
    expect([await show(`Bearer ${header}.${changed}.${signature}`), reason()]).toEqual(["ticket-refused", "signature"]);
  });

  test("refuses a second use of a client's ticket, not of the edge's", async () => {
    const { show, signed, reason } = await setUp();
    const once = `Bearer ${await signed({ azp: "client" })}`;
    expect([await show(once), await show(once), reason()]).toEqual(["admitted", "ticket-refused", "replayed"]);
    const often = `Bearer ${await signed({ azp: "edge" })}`;
    expect([await show(often), await show(often)]).toEqual(["admitted", "admitted"]);
  });

  test("refuses a ticket from before its subject's permissions narrowed, and nobody else's", async () => {
    const { verifier, show, signed } = await setUp();
    verifier.floors.raise({ sub: SUBJECT, epoch: 2, at: Date.now() });
    expect(await show(`Bearer ${await signed({ epoch: 1 })}`)).toBe("stale-epoch");
    expect(await show(`Bearer ${await signed({ epoch: 2 })}`)).toBe("admitted");
    expect(await show(`Bearer ${await signed({ epoch: 1, sub: "identity:bbbbbbbbbbbbbbbb" })}`)).toBe("admitted");
  });

  test("wants fresh verdicts while the feed is silent", async () => {
    const { show, signed, pass } = await setUp();
    const nowS = Math.floor(Date.now() / 1000);
    const old = `Bearer ${await signed({ read_at: nowS - 40 })}`;
    const fresh = `Bearer ${await signed({ read_at: nowS })}`;
    expect(await show(old)).toBe("admitted");
    pass(6_000);
    expect([await show(old), await show(fresh)]).toEqual(["stale-authority", "admitted"]);
  });

  test("lets nobody in before the host has joined its region", async () => {
    const { signed, log } = await setUp();
    const admission = await new Gate(() => null).admit(`Bearer ${await signed({})}`, { vmId: VM, operation: "exec" }, log);
    expect(!admission.ok && admission.failure.kind).toBe("host-unavailable");
  });

  test("never writes a ticket into the log", async () => {
    const { show, signed, lines } = await setUp();
    const ticket = await signed({ aud: ["host:other"] });
    await show(`Bearer ${ticket}`);
    expect(lines.join("")).not.toContain(ticket.slice(-40));
  });
});
