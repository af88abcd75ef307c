import { beforeAll, describe, expect, it } from "vitest";
import { bodyOf, everyEndpoint, type PathValues, pathOf } from "./support/endpoints.ts";
import { call, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

let world: World;
let values: PathValues;
beforeAll(async () => {
  world = await openWorld();
  const vmId = await newVm(world.account);
  const identity = await newIdentity(world.account);
  values = { vmId, identityId: identity.id, tokenId: identity.tokenId };
});

const withBodies = everyEndpoint.filter(({ endpoint }) => endpoint.body !== undefined);

describe.each(withBodies)("$name", ({ endpoint }) => {
  const send = async (body: unknown) => {
    const response = await call(pathOf(endpoint, values), { method: endpoint.method.toUpperCase(), key: world.account.key, body });
    return { status: response.status, ...(await response.json<{ message: string }>()) };
  };

  it("refuses a member that it does not know, by name", async () => {
    const { status, message } = await send({ ...bodyOf(endpoint), nobodyKnowsThis: 1 });
    expect(status).toBe(400);
    expect(message).toContain("nobodyKnowsThis");
  });

  it.each([
    ["an array", []],
    ["a text", "text"],
    ["a number", 7],
  ])("refuses %s for a body", async (_what, body) => {
    expect((await send(JSON.stringify(body))).status).toBe(400);
  });
});

it.each([
  ["/v1/vms", { users: [{ name: "x", uid: "1" }] }, "users.0.uid"],
  ["/v5/vms", { firewall: { rules: [{ action: "allow", source: { port: "x" }, destination: {} }] } }, "firewall.rules.0"],
  ["/v5/identities", { managed: "yes" }, "managed"],
])("POST %s names the path of a member of the wrong type", async (path, body, member) => {
  const response = await call(path, { method: "POST", key: world.account.key, body });
  expect(response.status).toBe(400);
  expect((await response.json<{ message: string }>()).message).toContain(member);
});
