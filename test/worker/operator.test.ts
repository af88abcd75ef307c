import { beforeAll, describe, expect, it } from "vitest";
import { bindings } from "../durable-objects/objects.ts";
import { served } from "./support/served.ts";
import { enrolService } from "./support/services.ts";
import { call, must, newAccount, newIdentity, newVm, OPERATOR_KEY, ORIGIN, openWorld, type World } from "./support/world.ts";

const ROUTES = [
  ["POST", "/operator/v1/accounts"],
  ["POST", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/api-keys"],
  ["GET", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/api-keys"],
  ["DELETE", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/api-keys/x"],
  ["POST", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/vms"],
  ["DELETE", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/vms/aaaaaaaaaaaaaaaaaaaa"],
  ["POST", "/operator/v1/regions/local/service-keys"],
  ["DELETE", "/operator/v1/regions/local/service-keys/x"],
  ["POST", "/operator/v1/regions/local/join-tokens"],
  ["DELETE", "/operator/v1/regions/local/join-tokens/x"],
  ["GET", "/operator/v1/regions/local/services"],
  ["DELETE", "/operator/v1/regions/local/services/x"],
  ["GET", "/operator/v1/regions/local/hosts"],
  ["PATCH", "/operator/v1/regions/local/hosts/aaaaaaaaaaaaaaaa"],
  ["GET", "/operator/v1/metrics"],
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

const REGION = "/operator/v1/regions/local";
const joinToken = (body: object) =>
  must<{ tokenId: string; joinToken: string; expiresAt: number }>(`${REGION}/join-tokens`, {
    method: "POST",
    key: OPERATOR_KEY,
    body,
  });

it("the operator makes a join token that enrols one service, sees the service, and revokes it", async () => {
  const made = await joinToken({ kind: "forwarder", name: "gate 1" });
  expect(made.joinToken).toMatch(/^pss_[a-z2-7]{46}$/);
  const { serviceId, assertion } = await enrolService(made.joinToken, { kind: "forwarder" });
  await expect(enrolService(made.joinToken, { kind: "forwarder" })).rejects.toThrow("401");
  const { services } = await must<{ services: { id: string }[] }>(`${REGION}/services?limit=1000`, { key: OPERATOR_KEY });
  expect(services).toContainEqual({
    id: serviceId,
    kind: "forwarder",
    hostId: null,
    name: "gate 1",
    enrolledBy: made.tokenId,
    createdAt: expect.any(Number),
  });
  const feed = async () => call("/service/v1/feed", { key: await assertion(), headers: { upgrade: "websocket" } });
  const open = await feed();
  expect(open.status).toBe(101);
  open.webSocket?.accept();
  await must(`${REGION}/services/${serviceId}`, { method: "DELETE", key: OPERATOR_KEY });
  expect((await feed()).status).toBe(401);
  expect((await call(`${REGION}/services/${serviceId}`, { method: "DELETE", key: OPERATOR_KEY })).status).toBe(404);
});

it("a service that is revoked while it dials its feed is told so", async () => {
  const { serviceId, assertion } = await enrolService((await joinToken({ kind: "forwarder" })).joinToken, { kind: "forwarder" });
  const getByName = (name: string) => {
    const region = bindings.REGION.getByName(name);
    const checkService = async (text: string) => {
      const standing = await region.checkService(text);
      await must(`${REGION}/services/${serviceId}`, { method: "DELETE", key: OPERATOR_KEY });
      return standing;
    };
    return { checkService, fetch: (request: Request) => region.fetch(request) };
  };
  const headers = { authorization: `Bearer ${await assertion()}`, upgrade: "websocket" };
  const response = await served(`${ORIGIN}/service/v1/feed`, { headers }, { ...bindings, REGION: { getByName } });
  expect([response.status, await response.json()]).toEqual([401, expect.objectContaining({ kind: "service-key-refused" })]);
  expect(response.headers.get("x-freestyle-trace-id")).toMatch(/^[0-9a-f]{32}$/);
});

it("a join token lives as long as it was told to, but never longer than a day", async () => {
  const left = async (lifeSeconds?: number) => (await joinToken({ kind: "host", lifeSeconds })).expiresAt - Date.now();
  expect(await left()).toBeLessThanOrEqual(900_000);
  expect(await left(60)).toBeLessThanOrEqual(60_000);
  expect(await left(1_000_000)).toBeLessThanOrEqual(86_400_000);
});

it("a join token that the operator takes back enrols nobody", async () => {
  const { tokenId, joinToken: text } = await joinToken({ kind: "forwarder" });
  await must(`${REGION}/join-tokens/${tokenId}`, { method: "DELETE", key: OPERATOR_KEY });
  await expect(enrolService(text, { kind: "forwarder" })).rejects.toThrow("401");
});

it.each([undefined, {}, { kind: "edge" }, { kind: "host", hostId: "UPPER" }, { kind: "host", lifeSeconds: 0 }])(
  "a join token of %j is a bad request",
  async (body) => {
    expect((await call(`${REGION}/join-tokens`, { method: "POST", key: OPERATOR_KEY, body })).status).toBe(400);
  },
);

it.each(["an API key", "an access token", "the operator's key", "an assertion", "nothing"])("%s enrols nobody", async (what) => {
  const { token } = await newIdentity(world.account);
  const shown: Record<string, string> = {
    "an API key": world.account.key,
    "an access token": token,
    "the operator's key": OPERATOR_KEY,
    "an assertion": await world.forwarder.assertion(),
    nothing: "",
  };
  await expect(enrolService(shown[what] ?? "", { kind: "forwarder" })).rejects.toThrow("401");
});

it("the operator sees a region's hosts", async () => {
  const { hosts } = await must<{ hosts: object[] }>("/operator/v1/regions/local/hosts", { key: OPERATOR_KEY });
  expect(hosts).toContainEqual(expect.objectContaining({ id: world.host.id, url: world.host.url, connected: true }));
});

it("the operator drains a host, which then takes no new VM, and lets it take them again", async () => {
  const path = `/operator/v1/regions/local/hosts/${world.host.id}`;
  const drain = (draining: unknown) => call(path, { method: "PATCH", key: OPERATOR_KEY, body: { draining } });
  expect((await drain("yes")).status).toBe(400);
  expect((await drain(true)).status).toBe(200);
  const refused = await call("/v1/vms", { method: "POST", key: world.account.key, body: {} });
  expect([refused.status, await refused.json()]).toMatchObject([503, { code: "UNAVAILABLE" }]);
  expect((await drain(false)).status).toBe(200);
  await newVm(world.account);
});

it("the operator reads what regions know of their hosts as Prometheus does", async () => {
  const response = await call("/operator/v1/metrics", { key: OPERATOR_KEY });
  expect(response.headers.get("content-type")).toContain("text/plain; version=0.0.4");
  const text = await response.text();
  expect(text).toContain(`postern_host_connected{region="local",host="${world.host.id}"} 1\n`);
  expect(text).toContain(`postern_host_capacity{region="local",host="${world.host.id}"} 1000\n`);
  for (const line of text.trimEnd().split("\n"))
    expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|\w+\{region="\w+",host="\w+"\} \d+)$/);
});

it.each([
  ["POST", "/operator/v1/accounts/aaaaaaaaaaaaaaaa/api-keys"],
  ["POST", "/operator/v1/accounts/not-an-id/api-keys"],
  ["POST", "/operator/v1/regions/nowhere/service-keys"],
  ["GET", "/operator/v1/regions/nowhere/services"],
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
