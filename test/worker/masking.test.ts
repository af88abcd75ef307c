import { beforeAll, describe, expect, it } from "vitest";
import { bodyOf, pathOf, vmEndpoints } from "./support/endpoints.ts";
import { call, type Identity, must, newAccount, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

const ABSENT_VM = "a".repeat(20);

let world: World;
let identity: Identity;
/** VMs that the identity must not be able to tell from one that does not exist. */
let hidden: Record<string, string>;

beforeAll(async () => {
  world = await openWorld();
  const granted = await newVm(world.account);
  const deleted = await newVm(world.account);
  identity = await newIdentity(world.account, [granted, deleted]);
  await must(`/v1/vms/${deleted}`, { method: "DELETE", key: world.account.key });
  hidden = {
    absent: ABSENT_VM,
    ungranted: await newVm(world.account),
    foreign: await newVm(await newAccount()),
    deleted,
    malformed: "no-vm",
  };
});

describe.each(vmEndpoints)("$name", ({ endpoint }) => {
  const send = (vmId: string, shown: { key: string } | { token: string }, linuxUser?: string) =>
    call(pathOf(endpoint, { vmId, identityId: identity.id, tokenId: identity.tokenId }), {
      method: endpoint.method.toUpperCase(),
      body: bodyOf(endpoint),
      ...shown,
      ...(linuxUser === undefined ? {} : { linuxUser }),
    });

  it("answers an access token the same bytes for a VM that is not granted, not there, deleted, foreign or no VM id", async () => {
    const before = world.host.calls.length;
    const answers = await Promise.all(Object.values(hidden).map((vmId) => send(vmId, { token: identity.token }).then(bytesOf)));
    expect(answers[0]).toMatch(/^404 /);
    expect(new Set(answers).size).toBe(1);
    expect(world.host.calls.length).toBe(before);
  });

  it("answers the same whatever Linux user is named", async () => {
    const alice = await send(hidden.ungranted ?? "", { token: identity.token }, "alice").then(bytesOf);
    expect(alice).toBe(await send(ABSENT_VM, { token: identity.token }).then(bytesOf));
  });

  it("answers an API key the same bytes for another account's VM and one that does not exist", async () => {
    const before = world.host.calls.length;
    const key = world.account.key;
    const foreign = await send(hidden.foreign ?? "", { key }).then(bytesOf);
    expect(foreign).toMatch(/^404 /);
    expect(foreign).toBe(await send(ABSENT_VM, { key }).then(bytesOf));
    expect(world.host.calls.length).toBe(before);
  });
});

it.each(["stop", "suspend"])("POST %s of another account's VM is not found and reaches no host", async (action) => {
  const before = world.host.calls.length;
  const response = await call(`/v1/vms/${hidden.foreign}/${action}`, { method: "POST", key: world.account.key });
  expect(await bytesOf(response)).toBe(
    await bytesOf(await call(`/v1/vms/${ABSENT_VM}/${action}`, { method: "POST", key: world.account.key })),
  );
  expect(response.status).toBe(404);
  expect(world.host.calls.length).toBe(before);
});

it("DELETE of another account's VM is not found and deletes nothing", async () => {
  const response = await call(`/v1/vms/${hidden.foreign}`, { method: "DELETE", key: world.account.key });
  expect(await response.json()).toMatchObject({ code: "VM_NOT_FOUND" });
});

it("an API key is told that an id of another form is no VM id", async () => {
  const response = await call("/v1/vms/no-vm", { key: world.account.key });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ code: "INVALID_VM_ID" });
});

it("another account's VM cannot be granted", async () => {
  for (const vmId of [hidden.foreign, ABSENT_VM, "no-vm"]) {
    const path = `/identity/v1/identities/${identity.id}/permissions/vm/${vmId}`;
    const response = await call(path, { method: "POST", key: world.account.key, body: {} });
    expect(await bytesOf(response)).toMatch(/^404 .*VM_NOT_FOUND/);
  }
});

/** Status, headers and body, without the trace id. */
async function bytesOf(response: Response): Promise<string> {
  const headers = [...response.headers].filter(([name]) => name !== "x-freestyle-trace-id");
  return `${response.status} ${JSON.stringify(headers)} ${await response.text()}`;
}
