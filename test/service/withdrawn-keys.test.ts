import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type CryptoKey, exportJWK, generateKeyPair, type JWK } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { hostAudience, signTicket } from "../../protocol/ticket.ts";
import { TicketVerifier } from "../../protocol/verifier.ts";
import { KeySet } from "../../service/key-set.ts";
import { DEFAULT_MEMBERSHIP_TIMES } from "../../service/membership.ts";
import { ISSUER, saneClaims } from "../host/support/test-edge.ts";

const HOST = "h".repeat(16);

let published: Map<string, JWK>;
let fetches: number;
let failing: boolean;
/** Resolved before a fetch is answered; what is answered is what was published when it was asked. */
let hold: Promise<void>;
let now: number;
let url: string;
const server = createServer(async (_request, response) => {
  fetches += 1;
  const body = JSON.stringify({ keys: [...published.values()] });
  const status = failing ? 503 : 200;
  await hold;
  response.writeHead(status, { "content-type": "application/json" }).end(body);
});

beforeEach(async () => {
  published = new Map();
  fetches = 0;
  failing = false;
  hold = Promise.resolve();
  now = Date.now();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

async function newKey(kid: string, isPublished = true): Promise<{ kid: string; key: CryptoKey }> {
  const { publicKey, privateKey } = await generateKeyPair("EdDSA", { crv: "Ed25519" });
  if (isPublished) published.set(kid, { ...(await exportJWK(publicKey)), kid, alg: "EdDSA", use: "sig" });
  return { kid, key: privateKey };
}

function open() {
  const keys = new KeySet(url, DEFAULT_MEMBERSHIP_TIMES, () => now);
  const verifier = new TicketVerifier({ getKey: keys.getKey, issuer: ISSUER, audience: hostAudience(HOST), clock: () => now });
  verifier.feedHeard();
  const verify = async ({ kid, key }: { kid: string; key: CryptoKey }) => {
    const iat = Math.floor(now / 1000);
    verifier.feedHeard();
    const checked = await verifier.verify(await signTicket({ ...saneClaims(HOST), iat, read_at: iat, exp: iat + 60 }, key, kid));
    return checked.ok ? "ok" : checked.reason;
  };
  return { keys, verifier, verify };
}

describe("a verifier", () => {
  test("under a flood of unknown key ids is fetched at most once in 30 s, and good tickets pass meanwhile", async () => {
    const key = await newKey("one");
    const { verify } = open();
    await verify(key);
    const forged = await newKey("forged", false);
    for (let second = 0; second < 300; second += 1) {
      now += 1_000;
      const flood = Array.from({ length: 10 }, (_, index) => verify({ ...forged, kid: `unknown-${second}-${index}` }));
      expect(new Set(await Promise.all(flood))).toEqual(new Set(["unknown-key"]));
      if (second % 50 === 0) expect(await verify(key)).toBe("ok");
    }
    expect(fetches).toBeLessThanOrEqual(1 + 300 / 30);
    expect(fetches).toBeGreaterThan(5);
  });

  test("under such a flood is not fetched more often while the edge answers with errors", async () => {
    const key = await newKey("one");
    const { verify } = open();
    await verify(key);
    failing = true;
    const forged = await newKey("forged", false);
    for (let second = 0; second < 59; second += 1) {
      now += 1_000;
      await verify({ ...forged, kid: `unknown-${second}` });
      expect(await verify(key)).toBe("ok");
    }
    expect(fetches).toBe(2);
  });

  test("is fetched at once when keys were withdrawn, whatever the cool-down; the withdrawn ones count for nothing", async () => {
    const old = await newKey("old");
    const { keys, verifier, verify } = open();
    expect(await verify(old)).toBe("ok");
    const next = await newKey("new");
    published.delete("old");
    expect(verifier.voidKeys(["old"])).toBe(true);
    keys.withdraw();
    expect([await verify(old), await verify(next), fetches]).toEqual(["voided-key", "ok", 2]);
    expect(verifier.voidKeys(["old"])).toBe(false);
  });

  test("does not take a set whose fetch began before keys were withdrawn", async () => {
    const old = await newKey("old");
    const gate = Promise.withResolvers<void>();
    hold = gate.promise;
    const { keys, verify } = open();
    const early = verify(old);
    while (fetches === 0) await new Promise((resolve) => setImmediate(resolve));
    published.delete("old");
    hold = Promise.resolve();
    keys.withdraw();
    gate.resolve();
    expect(await early).not.toBe("ok");
    expect(await verify(await newKey("old", false))).toBe("unknown-key");
  });

  test("refuses a withdrawn key's ticket that was being verified when it was withdrawn", async () => {
    const old = await newKey("old");
    const gate = Promise.withResolvers<void>();
    hold = gate.promise;
    const { verifier, verify } = open();
    const early = verify(old);
    while (fetches === 0) await new Promise((resolve) => setImmediate(resolve));
    verifier.voidKeys(["old"]);
    gate.resolve();
    expect(await early).toBe("voided-key");
  });
});
