import { evictDurableObject } from "cloudflare:test";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { identitySubject } from "../../protocol/subjects.ts";
import { forgetCaches } from "../../worker/cache/edge-caches.ts";
import { bindings, runSql } from "../durable-objects/objects.ts";
import * as edge from "./support/world.ts";

/** A grant ends with its account's hold on the VM: that of this build, and those of older ones, in objects with their tables. */

let world: edge.World;
let account: edge.Account;
let vmId: string;
let identity: edge.Identity;

beforeAll(async () => {
  world = await edge.openWorld();
});
beforeEach(async () => {
  account = await edge.newAccount();
  vmId = await edge.newVm(account);
  world.host.isFeedUp = true;
});

const vm = () => bindings.VM.getByName(vmId);
const holder = () => bindings.IDENTITY.getByName(identity.id);

const moveTo = ({ accountId }: edge.Account) =>
  edge.must(`/operator/v1/vms/${vmId}/transfer`, { method: "POST", key: edge.OPERATOR_KEY, body: { accountId } });

async function thereAndBack(): Promise<void> {
  await moveTo(await edge.newAccount());
  await moveTo(account);
}

const grantAs = (method: "POST" | "PUT", allowedUsers: readonly string[]) =>
  edge.call(edge.grantPath(identity.id, vmId), { method, key: account.key, body: { allowedUsers } });

const exec = (caller: { token: string } | { key: string }, linuxUser = "alice") =>
  edge.call(`/v1/vms/${vmId}/exec-await`, {
    method: "POST",
    ...caller,
    linuxUser,
    body: { command: "true", terminal: null, timeoutMs: null },
  });

async function checkSession(): Promise<Response> {
  const { id, tokenId } = identity;
  const body = { subject: identitySubject(id), credentialId: tokenId, vmId, linuxUser: "alice", operation: "ssh" };
  return edge.call("/service/v1/session-checks", { method: "POST", key: await world.forwarder.assertion(), body });
}

const post = (path: string, body: object) => edge.call(path, { method: "POST", token: identity.token, body });

/** Everything by which a grant admits. */
const WAYS: readonly (readonly [way: string, () => Promise<Response>])[] = [
  ["an exec, by a warm edge", () => exec(identity)],
  [
    "an exec, by what the location knows",
    () => {
      forgetCaches();
      return exec(identity);
    },
  ],
  ["the VM's record", () => edge.call(`/v1/vms/${vmId}`, { token: identity.token })],
  ["a start", () => post(`/v1/vms/${vmId}/start`, {})],
  ["an SSH ticket", () => post(`/v5/vms/${vmId}/ssh-ticket`, { linuxUser: "alice" })],
  ["a live session's check", checkSession],
];

async function answers(): Promise<readonly (readonly [way: string, status: number])[]> {
  const seen: (readonly [string, number])[] = [];
  for (const [way, send] of WAYS) seen.push([way, (await send()).status]);
  return seen;
}

const all = (status: number) => WAYS.map(([way]) => [way, status]);

/** Makes an object's tables those of an older build; it takes the newer steps when it wakes. */
async function ageTo(stub: unknown, steps: number, undo: string): Promise<void> {
  await runSql(stub, `${undo} UPDATE meta SET value = ${steps} WHERE key = 'schema'`);
  await evictDurableObject(stub as DurableObjectStub);
}

const ageGrants = () => ageTo(holder(), 2, "ALTER TABLE grants DROP COLUMN vm_epoch;");

async function beforeGrantsNotedEpochs(): Promise<void> {
  await ageGrants();
  await ageTo(vm(), 3, "ALTER TABLE vm DROP COLUMN unnoted_epoch;");
}

async function beforeVmsHadEpochs(): Promise<void> {
  await ageGrants();
  const columns = ["unnoted_epoch", "epoch", "moving_to", "left_account"];
  await ageTo(vm(), 2, `${columns.map((name) => `ALTER TABLE vm DROP COLUMN ${name};`).join(" ")} DROP TABLE outbox;`);
}

const nothing = async () => undefined;

describe.each([
  ["by this build", nothing, nothing],
  ["before grants noted epochs, on a VM that had moved away and back already", thereAndBack, beforeGrantsNotedEpochs],
  ["before VMs had epochs", nothing, beforeVmsHadEpochs],
] as const)("a grant that was given %s", (_when, before, age) => {
  beforeEach(async () => {
    await before();
    identity = await edge.newIdentity(account, [vmId], ["alice", "bob"]);
    await age();
    forgetCaches();
  });

  it("admits, nobody once the VM has moved, and nobody when it is back, until it is given anew", async () => {
    expect(await answers()).toEqual(all(200));
    await moveTo(await edge.newAccount());
    expect(await answers()).toEqual(all(404));
    await moveTo(account);
    expect(await answers()).toEqual(all(404));
    // The account itself has its VM.
    expect((await exec(account)).status).toBe(200);
    expect((await grantAs("POST", ["alice"])).status).toBe(200);
    expect(await answers()).toEqual(all(200));
  });

  it.each(WAYS)("admits nobody after a move there and back that nobody saw: %s", async (_way, send) => {
    expect((await send()).status).toBe(200);
    await thereAndBack();
    expect((await send()).status).toBe(404);
    expect((await send()).status).toBe(404);
  });

  it("is given anew, by the same call as the first, and then admits at once, whatever the edge had known", async () => {
    await exec(identity);
    await thereAndBack();
    // The place is known anew while the verdict is that of the old grant.
    await exec(account);
    expect((await grantAs("PUT", ["alice"])).status).toBe(404);
    expect((await grantAs("POST", ["alice"])).status).toBe(200);
    expect((await exec(identity)).status).toBe(200);
    expect((await exec(identity, "bob")).status).toBe(403);
  });
});
