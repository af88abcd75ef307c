import { beforeAll, describe, expect, it } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { importMacKeys, mintCredential } from "../../protocol/tokens.ts";
import { bindings, setClock } from "../durable-objects/objects.ts";
import { accountEndpoints, bodyOf, everyEndpoint, type PathValues, pathOf } from "./support/endpoints.ts";
import {
  type Account,
  call,
  type Identity,
  must,
  newAccount,
  newIdentity,
  newVm,
  OPERATOR_KEY,
  openWorld,
  type World,
} from "./support/world.ts";

let world: World;
let identity: Identity;
let values: PathValues;
/** Credentials that must open nothing, by why. */
const dead: Record<string, string> = {};

beforeAll(async () => {
  world = await openWorld();
  const vmId = await newVm(world.account);
  identity = await newIdentity(world.account, [vmId]);
  values = { vmId, identityId: identity.id, tokenId: identity.tokenId };
  dead.garbage = "nonsense";
  dead["a forged MAC"] = `${identity.token.slice(0, -1)}${identity.token.endsWith("a") ? "b" : "a"}`;
  dead["an unknown prefix"] = `psx${identity.token.slice(3)}`;
  dead["upper case"] = identity.token.toUpperCase();
  dead["a service key"] = world.serviceKey;
  dead["the operator's key"] = OPERATOR_KEY;
  dead["a token of an object that does not exist"] = await mintedNowhere("access-token");
  dead["a key of an object that does not exist"] = await mintedNowhere("api-key");
  dead["a revoked token"] = await revokedToken(world.account, vmId);
  dead["an expired token"] = await expiredToken(world.account, vmId);
  dead["a token of a deleted identity"] = await orphanedToken(world.account, vmId);
  dead["a revoked key"] = await revokedKey();
});

describe.each(everyEndpoint)("$name", ({ endpoint }) => {
  const method = endpoint.method.toUpperCase();

  it("is closed to whoever shows no credential", async () => {
    const response = await call(pathOf(endpoint, values), { method, body: bodyOf(endpoint) });
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe("Bearer");
    expect(await response.json()).toMatchObject({
      code: endpoint.path.startsWith("/v5") ? "MISSING_CREDENTIALS" : "UNAUTHORIZED_ERROR",
    });
  });

  it("is closed to every dead credential, with one and the same answer, and reaches no host", async () => {
    const before = world.host.calls.length;
    const answers = await Promise.all(
      Object.entries(dead).map(async ([why, key]) => {
        const response = await call(pathOf(endpoint, values), { method, key, body: bodyOf(endpoint) });
        return { why, status: response.status, body: await response.text() };
      }),
    );
    expect(answers.filter(({ status }) => status !== 401)).toEqual([]);
    expect(new Set(answers.map(({ body }) => body)).size).toBe(1);
    expect(world.host.calls.length).toBe(before);
  });

  it("is closed to an API key in the header of access tokens", async () => {
    const response = await call(pathOf(endpoint, values), { method, token: world.account.key, body: bodyOf(endpoint) });
    expect(response.status).toBe(401);
  });
});

it.each(accountEndpoints)("$name wants an API key of an access token, in either header", async ({ endpoint }) => {
  for (const shown of [{ token: identity.token }, { key: identity.token }]) {
    const response = await call(pathOf(endpoint, values), {
      method: endpoint.method.toUpperCase(),
      body: bodyOf(endpoint),
      ...shown,
    });
    expect(response.status).toBe(403);
    const body = await response.json<{ code: string; message: string }>();
    expect(body.code).toBe("FORBIDDEN");
    expect(body.message).toContain("API key");
  }
});

it("an API key wins over an access token that is sent beside it", async () => {
  const answer = await must<object>("/auth/v1/whoami", { key: world.account.key, token: identity.token });
  expect(answer).toEqual({ accountId: world.account.accountId });
});

it("a scheme other than Bearer is no credential, so the access token beside it counts", async () => {
  const answer = await must<object>("/auth/v1/whoami", { token: identity.token, headers: { authorization: "Basic eDp5" } });
  expect(answer).toEqual({ accountId: world.account.accountId, identityId: identity.id });
});

async function mintedNowhere(kind: "access-token" | "api-key"): Promise<string> {
  const keys = await importMacKeys(bindings.TOKEN_MAC_KEYS);
  return (await mintCredential(kind, "a".repeat(16), keys, platformRandomBytes)).text;
}

async function revokedToken(account: Account, vmId: string): Promise<string> {
  const { id, tokenId, token } = await newIdentity(account, [vmId]);
  await must(`/identity/v1/identities/${id}/tokens/${tokenId}`, { method: "DELETE", key: account.key });
  return token;
}

async function expiredToken(account: Account, vmId: string): Promise<string> {
  const { id } = await newIdentity(account, [vmId]);
  const body = { expiresInSeconds: 60 };
  const made = await must<{ token: string }>(`/identity/v1/identities/${id}/tokens`, { method: "POST", key: account.key, body });
  await setClock(bindings.IDENTITY.getByName(id), Date.now() + 61_000);
  return made.token;
}

async function orphanedToken(account: Account, vmId: string): Promise<string> {
  const { id, token } = await newIdentity(account, [vmId]);
  await must(`/identity/v1/identities/${id}`, { method: "DELETE", key: account.key });
  return token;
}

async function revokedKey(): Promise<string> {
  const { accountId, key } = await newAccount();
  const path = `/operator/v1/accounts/${accountId}/api-keys`;
  const { keys } = await must<{ keys: { id: string }[] }>(path, { key: OPERATOR_KEY });
  for (const { id } of keys) await must(`${path}/${id}`, { method: "DELETE", key: OPERATOR_KEY });
  return key;
}
