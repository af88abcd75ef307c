import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { StoredObject } from "../../durable-objects/stored-object.ts";
import { forgetCaches } from "../../worker/cache/edge-caches.ts";
import { bindings, localRegion, runSql, setSettings } from "../durable-objects/objects.ts";
import * as edge from "./support/world.ts";

/** Objects that the platform takes out of memory, as it does when they are idle: under traffic, and with work of theirs undone. */

const ROUNDS = 5;
/** An alarm that is due comes after the first wait between deliveries, a second. */
const ALARM_MS = 10_000;

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
  identity = await edge.newIdentity(account, [vmId]);
  world.host.isFeedUp = true;
});

const holder = () => bindings.IDENTITY.getByName(identity.id);

/** Takes an object out of memory, and sees to it that this has happened: what a test put there is gone. */
async function evict(stub: unknown): Promise<void> {
  const object = stub as DurableObjectStub<StoredObject>;
  await setSettings(object, { MAX_PAGE_SIZE: 1 });
  await evictDurableObject(object);
  expect(await runInDurableObject(object, ({ settings }) => settings.MAX_PAGE_SIZE)).not.toBe(1);
}

async function evictAll(): Promise<void> {
  const [owning, machine] = [bindings.ACCOUNT.getByName(account.accountId), bindings.VM.getByName(vmId)];
  for (const object of [holder(), owning, machine, await localRegion()]) await evict(object);
}

const owner = (method: string, path: string, body?: object) => edge.call(path, { method, key: account.key, body });
const operator = (path: string, body?: object) =>
  edge.call(`/operator/v1${path}`, { method: "POST", key: edge.OPERATOR_KEY, body });
const tokens = () => `/identity/v1/identities/${identity.id}/tokens`;
const newToken = () => edge.must<{ id: string; token: string }>(tokens(), { method: "POST", key: account.key });

const exec = (credential: { token: string } | { key: string }) =>
  edge.call(`/v1/vms/${vmId}/exec-await`, { method: "POST", ...credential, body: { command: "true" } });
/** Answered by the edge itself, from the objects. */
const read = (credential: { token: string } | { key: string }) => edge.call(`/v1/vms/${vmId}`, credential);

describe("an identity, its account, its VM and their region that are evicted again and again under traffic", () => {
  it("answer whoever may, refuse whoever may not, and keep every change that was acknowledged", async () => {
    const seen: number[] = [];
    /** Many callers at once, who know nothing beforehand. */
    const burst = async () => {
      forgetCaches();
      const asked = [exec(identity), read(identity), exec(account), read(account)];
      for (const answer of await Promise.all([...asked, ...asked.map(() => exec(identity))])) {
        await answer.arrayBuffer();
        seen.push(answer.status);
      }
    };
    const made: string[] = [];
    const gone: string[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const [kept, dropped] = [await newToken(), await newToken()];
      await exec({ token: dropped.token });
      await Promise.all([burst(), burst()]);
      await evictAll();
      const [revoked] = await Promise.all([owner("DELETE", `${tokens()}/${dropped.id}`), burst()]);
      expect(revoked.status).toBe(200);
      await evictAll();
      const [refused] = await Promise.all([exec({ token: dropped.token }), burst()]);
      expect(refused.status).toBe(401);
      made.push(kept.token);
      gone.push(dropped.token);
    }
    expect(seen.length).toBeGreaterThan(ROUNDS);
    expect(seen.filter((status) => status !== 200)).toEqual([]);
    for (const token of made) expect((await read({ token })).status).toBe(200);
    for (const token of gone) expect((await read({ token })).status).toBe(401);
  });
});

describe("what an evicted object had still to tell a region that it could not reach is told by its alarm", () => {
  const NARROWINGS: readonly (readonly [what: string, narrow: () => Promise<Response>, status: number])[] = [
    ["a token revoked", () => owner("DELETE", `${tokens()}/${identity.tokenId}`), 401],
    ["an account suspended", () => operator(`/accounts/${account.accountId}/suspend`), 403],
    ["a VM moved", async () => operator(`/vms/${vmId}/transfer`, { accountId: (await edge.newAccount()).accountId }), 404],
  ];
  it.each(NARROWINGS)("%s", async (_what, narrow, status) => {
    expect((await exec(identity)).status).toBe(200);
    await runSql(await localRegion(), "ALTER TABLE floors RENAME TO floors_broken");
    try {
      expect((await narrow()).headers.get("postern-untold-regions")).toBe("local");
      await evictAll();
    } finally {
      await runSql(await localRegion(), "ALTER TABLE floors_broken RENAME TO floors");
    }
    // The edge goes by what it knows until the host has the floor.
    await vi.waitFor(async () => expect((await exec(identity)).status).toBe(status), { timeout: ALARM_MS, interval: 50 });
    expect(world.host.refusals.at(-1)).toBe("stale-epoch");
    expect((await read(identity)).status).toBe(status);
  });
});

it("a region that was evicted tells floors by the sockets that it had", async () => {
  expect((await exec(identity)).status).toBe(200);
  const before = world.host.refusals.length;
  await evict(await localRegion());
  expect((await owner("DELETE", `${tokens()}/${identity.tokenId}`)).status).toBe(200);
  expect((await exec(identity)).status).toBe(401);
  expect(world.host.refusals.slice(before)).toEqual(["stale-epoch"]);
});

it("a token that ends by itself while its identity is out of memory raises the epoch at its end", async () => {
  const { token } = await edge.must<{ token: string }>(tokens(), {
    method: "POST",
    key: account.key,
    body: { expiresInSeconds: 2 },
  });
  const epoch = async () => (await runSql(holder(), "SELECT epoch FROM identity"))[0]?.epoch;
  expect((await exec({ token })).status).toBe(200);
  const before = await epoch();
  await evict(holder());
  await vi.waitFor(async () => expect(await epoch()).toBe(Number(before) + 1), { timeout: ALARM_MS, interval: 200 });
  expect((await exec({ token })).status).toBe(401);
});
