import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { accountEndpoints, everyEndpoint, pathOf } from "./support/endpoints.ts";
import { type Call, call, must, newAccount, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

let world: World;
let vmId: string;
let token: string;
beforeAll(async () => {
  world = await openWorld();
});
beforeEach(async () => {
  vmId = await newVm(world.account);
  ({ token } = await newIdentity(world.account, [vmId]));
});

const act = (action: string, body?: object) => must(`/v1/vms/${vmId}/${action}`, { method: "POST", key: world.account.key, body });
const info = () => must<{ state: string }>(`/v1/vms/${vmId}`, { token });

it("an API key stops, suspends, starts and deletes; its token sees each state, and then no VM", async () => {
  expect(await info()).toEqual({
    id: vmId,
    name: null,
    state: "running",
    vmInstanceId: vmId,
    recreate: false,
    createdAt: expect.any(String),
  });
  expect(await act("suspend")).toEqual({ id: vmId, vmInstanceId: vmId, snapshotLayerId: null });
  expect((await info()).state).toBe("suspended");
  expect(await act("start", {})).toEqual({ id: vmId, domains: [`${vmId}.vm.localhost`], console_url: null });
  expect((await info()).state).toBe("running");
  expect(await act("stop")).toEqual({ vmId, vmInstanceId: vmId });
  expect((await info()).state).toBe("stopped");
  expect(await must(`/v1/vms/${vmId}`, { method: "DELETE", key: world.account.key })).toEqual({ id: vmId, recreate: false });
  for (const shown of [{ token }, { key: world.account.key }]) {
    const asked: readonly (readonly [path: string, options: Call])[] = [
      ["", {}],
      ["/start", { method: "POST", body: {} }],
      ["/exec-await", { method: "POST", body: { command: "id" } }],
      ["/files/%2F", {}],
    ];
    for (const [path, options] of asked) expect((await call(`/v1/vms/${vmId}${path}`, { ...options, ...shown })).status).toBe(404);
  }
});

it("an access token wakes its VM", async () => {
  await act("suspend");
  expect(await must(`/v1/vms/${vmId}/start`, { method: "POST", token, body: {} })).toMatchObject({ id: vmId });
  expect((await info()).state).toBe("running");
});

it.each([{ idleTimeoutSeconds: 0 }, { activityThresholdBytes: "few" }, { waitForReadySignal: "yes" }])(
  "start with %j is refused by name",
  async (body) => {
    const response = await call(`/v1/vms/${vmId}/start`, { method: "POST", token, body });
    expect(response.status).toBe(400);
    expect((await response.json<{ message: string }>()).message).toContain(Object.keys(body)[0]);
  },
);

it("a list is the account's own, by page and state, with counts", async () => {
  const owner = await newAccount();
  const ids = [await newVm(owner), await newVm(owner), await newVm(owner)];
  await must(`/v1/vms/${ids[0]}/suspend`, { method: "POST", key: owner.key });
  const all = await must<{ vms: { id: string }[] }>("/v1/vms", { key: owner.key });
  expect(all).toMatchObject({ totalCount: 3, runningCount: 2, suspendedCount: 1, stoppedCount: 0, startingCount: 0 });
  expect(all.vms.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
  const page = await must<{ vms: object[] }>("/v1/vms?offset=1&limit=1", { key: owner.key });
  expect(page.vms).toEqual([all.vms[1]]);
  const suspended = await must<{ vms: object[] }>("/v1/vms?vmState=suspended", { key: owner.key });
  expect(suspended.vms).toMatchObject([{ id: ids[0], state: "suspended", deleted: false }]);
  expect((await call("/v1/vms?vmState=asleep", { key: owner.key })).status).toBe(400);
});

const notOffered = everyEndpoint.filter(({ endpoint }) => endpoint.summary === "Not offered yet");

describe.each(notOffered)("$name is not offered", ({ name, endpoint }) => {
  it("and says so with a code that the SDKs know, to callers that are let in", async () => {
    const path = pathOf(endpoint, { vmId, identityId: "", tokenId: "" });
    const method = endpoint.method.toUpperCase();
    const isForKeys = accountEndpoints.some((other) => other.name === name);
    for (const shown of isForKeys ? [{ key: world.account.key }] : [{ key: world.account.key }, { token }]) {
      const response = await call(path, { method, ...shown });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ code: "BAD_REQUEST" });
    }
  });
});
