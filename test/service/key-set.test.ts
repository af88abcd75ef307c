import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, jwtVerify, SignJWT } from "jose";
import { afterEach, beforeEach, expect, test } from "vitest";
import { KeySet } from "../../service/key-set.ts";
import { until } from "../host/support/until.ts";

const TIMES = {
  keySetMaxAgeMs: 60_000,
  keySetKeepMs: 150_000,
  keySetCooldownMs: 30_000,
  keySetRetryMs: 1_000,
  keySetTimeoutMs: 5_000,
};

let server: Server;
let url: string;
let fetched: number;
let fails: boolean;
let now: number;
let keys: KeySet;
let published: { id: string; pair: Awaited<ReturnType<typeof generateKeyPair>> }[];
beforeEach(async () => {
  [fetched, fails, now] = [0, false, 1_000_000];
  published = [{ id: "one", pair: await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true }) }];
  server = createServer(async (_request, response) => {
    fetched += 1;
    const all = await Promise.all(published.map(async ({ id, pair }) => ({ ...(await exportJWK(pair.publicKey)), kid: id })));
    response.writeHead(fails ? 503 : 200).end(fails ? "{}" : JSON.stringify({ keys: all }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  keys = new KeySet(url, TIMES, () => now);
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

/** Verifies a token that the key of this id signed. */
async function verify(id: string): Promise<string> {
  const pair = published.find((key) => key.id === id)?.pair ?? (await generateKeyPair("EdDSA", { crv: "Ed25519" }));
  const token = await new SignJWT({}).setProtectedHeader({ alg: "EdDSA", kid: id }).sign(pair.privateKey);
  return jwtVerify(token, keys.getKey).then(
    () => "good",
    (error: Error & { code?: string }) => error.code ?? "no keys",
  );
}

async function prefetched(): Promise<void> {
  keys.keepFresh();
  await until(() => fetched === 1, "the keys were fetched");
  expect(await verify("one")).toBe("good");
}

test("fetched beforehand, it asks nobody to verify", async () => {
  await prefetched();
  for (let use = 0; use < 3; use += 1) expect(await verify("one")).toBe("good");
  expect(fetched).toBe(1);
});

test("verifiers that come before the first answer share one fetch", async () => {
  expect(await Promise.all([verify("one"), verify("one"), verify("one")])).toEqual(["good", "good", "good"]);
  expect(fetched).toBe(1);
});

test("after its age it is fetched again beside its use, and a key that is gone is gone", async () => {
  await prefetched();
  now += TIMES.keySetMaxAgeMs;
  published[0] = { id: "two", pair: await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true }) };
  keys.keepFresh();
  await until(() => fetched === 2, "the keys were fetched again");
  expect(await verify("two")).toBe("good");
  expect(await verify("one")).toBe("ERR_JWKS_NO_MATCHING_KEY");
});

test("while it cannot be fetched the old one is used for as long as a ticket may live, and no longer", async () => {
  await prefetched();
  fails = true;
  now += TIMES.keySetKeepMs;
  expect(await verify("one")).toBe("good");
  now += 1;
  expect(await verify("one")).toBe("no keys");
  expect([await verify("one"), fetched]).toEqual(["no keys", 2]);
  now += TIMES.keySetRetryMs;
  fails = false;
  expect(await verify("one")).toBe("good");
});

test("fetches that fail beside its use are spaced", async () => {
  await prefetched();
  fails = true;
  now += TIMES.keySetMaxAgeMs;
  keys.keepFresh();
  await until(() => fetched === 2, "it was tried");
  keys.keepFresh();
  now += TIMES.keySetTimeoutMs;
  keys.keepFresh();
  await until(() => fetched === 3, "it was tried again");
});

test("a key that is not in the set is looked for at the edge, but not more often than the cooldown allows", async () => {
  await prefetched();
  now += TIMES.keySetCooldownMs;
  published.push({ id: "two", pair: await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true }) });
  expect(await verify("two")).toBe("good");
  for (let use = 0; use < 5; use += 1) expect(await verify("forged")).toBe("ERR_JWKS_NO_MATCHING_KEY");
  expect(fetched).toBe(2);
});
