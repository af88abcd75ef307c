import { beforeAll, expect, it, vi } from "vitest";
import { bodyOf, everyEndpoint, type PathValues, pathOf } from "./support/endpoints.ts";
import { call, type Identity, newIdentity, newVm, OPERATOR_KEY, openWorld, type World } from "./support/world.ts";

let world: World;
let identity: Identity;
let values: PathValues;
beforeAll(async () => {
  world = await openWorld();
  const vmId = await newVm(world.account);
  identity = await newIdentity(world.account, [vmId]);
  values = { vmId, identityId: identity.id, tokenId: identity.tokenId };
});

it("no answer and no log line holds a credential or its secret, but the one that makes it", { timeout: 60_000 }, async () => {
  const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
  const warn = vi.spyOn(console, "warn").mockImplementation(() => undefined);
  const error = vi.spyOn(console, "error").mockImplementation(() => undefined);
  const shown = [
    identity.token,
    world.account.key,
    world.serviceKey,
    await world.forwarder.assertion(),
    OPERATOR_KEY,
    `${identity.token.slice(0, -1)}7`,
  ];
  const texts: string[] = [];
  // What destroys the fixtures comes last.
  const endpoints = everyEndpoint.toSorted(
    (a, b) => Number(a.endpoint.method === "delete") - Number(b.endpoint.method === "delete"),
  );
  for (const { endpoint } of endpoints) {
    for (const key of shown) {
      for (const body of [bodyOf(endpoint), `{"${key}":`, { command: key, allowedUsers: [key], users: [{ name: key }] }]) {
        if (body !== bodyOf(endpoint) && (endpoint.method === "get" || endpoint.method === "delete")) continue;
        const response = await call(pathOf(endpoint, values), { method: endpoint.method.toUpperCase(), key, body });
        const made = endpoint.path.endsWith("/tokens") && endpoint.method === "post" && response.ok;
        const text = await response.text();
        texts.push(made ? JSON.stringify({ ...JSON.parse(text), token: null }) : text, JSON.stringify([...response.headers]));
      }
    }
  }
  texts.push(JSON.stringify([log.mock.calls, warn.mock.calls, error.mock.calls]));
  vi.restoreAllMocks();
  const everything = texts.join("\n");
  for (const credential of shown) {
    const secret = credential === OPERATOR_KEY ? credential : credential.slice(20, 44);
    expect(everything.includes(secret), credential.slice(0, 4)).toBe(false);
  }
  expect(everything).not.toMatch(/(?:pst|psk|pss)_[a-z2-7]{20}/);
});
