import { beforeAll, describe, expect, it } from "vitest";
import { call, must, newAccount, newIdentity, OPERATOR_KEY, openWorld, type World } from "./support/world.ts";

const ROUTES = [
  ["POST", "/operator/v1/accounts"],
  ["POST", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/api-keys"],
  ["GET", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/api-keys"],
  ["DELETE", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/api-keys/x"],
  ["POST", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/vms"],
  ["DELETE", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/vms/aaaaaaaaaaaaaaaaaaaa"],
  ["POST", "/operator/v1/regions/local/service-keys"],
  ["DELETE", "/operator/v1/regions/local/service-keys/x"],
  ["GET", "/operator/v1/regions/local/hosts"],
  ["POST", "/operator/v1/signing-keys/rotate"],
] as const;

let world: World;
beforeAll(async () => {
  world = await openWorld();
});

describe.each(ROUTES)("%s %s", (method, path) => {
  it("is closed to everybody but the operator", async () => {
    const { token } = await newIdentity(world.account);
    const wrong = [
      world.account.key,
      token,
      world.serviceKey,
      `${OPERATOR_KEY}x`,
      OPERATOR_KEY.slice(1),
      OPERATOR_KEY.toUpperCase(),
    ];
    for (const key of [undefined, ...wrong]) {
      const response = await call(path, { method, ...(key === undefined ? {} : { key }) });
      expect(response.status).toBe(401);
      expect(await response.json()).toMatchObject({ code: key === undefined ? "MISSING_CREDENTIALS" : "INVALID_API_KEY" });
    }
    expect((await call(path, { method, token: OPERATOR_KEY })).status).toBe(401);
  });
});

it("the operator makes accounts, and keys that are shown once", async () => {
  const { accountId } = await newAccount();
  const keys = `/operator/v1/accounts/${accountId}/api-keys`;
  const made = await must<{ keyId: string; apiKey: string }>(keys, { method: "POST", key: OPERATOR_KEY, body: { name: "ci" } });
  expect(made).toEqual({ keyId: expect.any(String), apiKey: expect.stringMatching(/^psk_[a-z2-7]{46}$/) });
  expect(await must("/auth/v1/whoami", { key: made.apiKey })).toEqual({ accountId });
  const list = await must<object>(keys, { key: OPERATOR_KEY });
  expect(list).toMatchObject({ total: 2, keys: expect.arrayContaining([expect.objectContaining({ id: made.keyId, name: "ci" })]) });
  expect(JSON.stringify(list)).not.toContain(made.apiKey.slice(20, 44));
  expect(await must(`${keys}/${made.keyId}`, { method: "DELETE", key: OPERATOR_KEY })).toEqual({});
  expect((await call("/auth/v1/whoami", { key: made.apiKey })).status).toBe(401);
});

it("the operator sees a region's hosts", async () => {
  const { hosts } = await must<{ hosts: object[] }>("/operator/v1/regions/local/hosts", { key: OPERATOR_KEY });
  expect(hosts).toContainEqual(expect.objectContaining({ id: world.host.id, url: world.host.url, connected: true }));
});

it.each([
  ["POST", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/api-keys"],
  ["POST", "/operator/v1/accounts/not-an-id/api-keys"],
  ["POST", "/operator/v1/regions/nowhere/service-keys"],
  ["GET", "/operator/v1/regions/nowhere/hosts"],
])("%s %s is not found", async (method, path) => {
  expect((await call(path, { method, key: OPERATOR_KEY })).status).toBe(404);
});

it.each([undefined, {}, { name: "" }, { name: 7 }])("an account of %j is a bad request", async (body) => {
  expect((await call("/operator/v1/accounts", { method: "POST", key: OPERATOR_KEY, body })).status).toBe(400);
});

it("a rotated ticket key is published beside the one that signs", async () => {
  const before = await must<{ keys: { kid: string }[] }>("/.well-known/jwks.json");
  const { kid } = await must<{ kid: string }>("/operator/v1/signing-keys/rotate", { method: "POST", key: OPERATOR_KEY });
  const after = await must<{ keys: { kid: string }[] }>("/.well-known/jwks.json");
  expect(after.keys.map((key) => key.kid)).toEqual(expect.arrayContaining([kid, ...before.keys.map((key) => key.kid)]));
});
