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

describe.each(everyEndpoint)("$name", ({ endpoint }) => {
  it("refuses a query that it does not know, by name", async () => {
    const body = endpoint.body === undefined ? {} : { body: bodyOf(endpoint) };
    const known = pathOf(endpoint, values);
    const path = `${known}${known.includes("?") ? "&" : "?"}nobodyKnowsThis=1`;
    const response = await call(path, { method: endpoint.method.toUpperCase(), key: world.account.key, ...body });
    const { message } = await response.json<{ message: string }>();
    expect([response.status, message]).toEqual([400, expect.stringContaining("nobodyKnowsThis: ")]);
  });
});

it.each([
  ["/v1/vms", { users: [{ name: "x", password: "1" }] }, "users.0.password"],
  ["/v1/vms", { groups: [{ name: "x", members: [] }] }, "groups.0.members"],
  ["/v1/vms", { additionalFiles: { "/x": { content: "", mode: 1 } } }, "additionalFiles./x.mode"],
  ["/v1/vms", { users: [{ name: "Not One" }] }, "users.0.name: must be a Linux user name"],
  ["/v5/vms", { firewall: { rules: [] }, resources: { storage: 1 } }, "resources"],
  ["/v5/vms", { firewall: { rules: [], x: 1 } }, "firewall.x"],
  ["/v1/vms", { users: [{ name: "x", uid: "1" }] }, "users.0.uid"],
  ["/v5/vms", { firewall: { rules: [{ action: "allow", source: { port: "x" }, destination: {} }] } }, "firewall.rules.0"],
  ["/v5/identities", { managed: "yes" }, "managed"],
])("POST %s names the path of a member of the wrong type or of none: %j", async (path, body, member) => {
  const response = await call(path, { method: "POST", key: world.account.key, body });
  expect(response.status).toBe(400);
  const { message, path: named } = await response.json<{ message: string; path: string }>();
  expect(message).toContain(member);
  expect([named, message]).toEqual([expect.stringMatching(/./), expect.stringContaining(`${named}: `)]);
});
