import { beforeAll, describe, expect, it } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { call, newAccount, newVm, OPERATOR_KEY, openWorld, type World } from "./support/world.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});

const newId = () => newVmId(platformRandomBytes);
const register = async (accountId: string, body: unknown) => {
  const answer = await call(`/operator/v1/accounts/${accountId}/vms`, { method: "POST", key: OPERATOR_KEY, body });
  return { status: answer.status, body: await answer.json() };
};
const unregister = async (accountId: string, vmId: string) => {
  const answer = await call(`/operator/v1/accounts/${accountId}/vms/${vmId}`, { method: "DELETE", key: OPERATOR_KEY });
  return { status: answer.status, body: await answer.json() };
};

describe("registering a machine", () => {
  const wish = () => ({ vmId: newId(), region: "local", hostId: world.host.id });

  it.each([
    ["no VM id", { vmId: undefined }],
    ["a VM id of another form", { vmId: "My Machine" }],
    ["no host", { hostId: undefined }],
    ["a member that means nothing", { sizes: 1 }],
  ])("with %s is a bad request", async (_what, change) => {
    expect((await register(world.account.accountId, { ...wish(), ...change })).status).toBe(400);
  });

  it("for an account, in a region or on a host that does not exist is not found, and uses no id up", async () => {
    const vmId = newId();
    const { accountId } = world.account;
    expect((await register("aaaaaaaaaaaaaaaa", { ...wish(), vmId })).status).toBe(404);
    expect((await register(accountId, { ...wish(), vmId, region: "nowhere" })).status).toBe(404);
    expect((await register(accountId, { ...wish(), vmId, hostId: "aaaaaaaaaaaaaaaa" })).status).toBe(404);
  });

  it("on a host that makes its machines is refused", async () => {
    const refused = await register(world.account.accountId, wish());
    expect(refused).toMatchObject({ status: 400, body: { message: expect.stringContaining("makes its machines") } });
  });
});

describe("unregistering", () => {
  it("refuses a VM that was made", async () => {
    const vmId = await newVm(world.account);
    expect((await unregister(world.account.accountId, vmId)).status).toBe(400);
    expect((await call(`/v1/vms/${vmId}`, { key: world.account.key })).status).toBe(200);
  });

  it("knows no VM that never was, and none of another account", async () => {
    expect((await unregister(world.account.accountId, newId())).status).toBe(404);
    const other = await newAccount();
    expect((await unregister(other.accountId, await newVm(world.account))).status).toBe(404);
    expect((await unregister(world.account.accountId, "x")).status).toBe(400);
  });
});
