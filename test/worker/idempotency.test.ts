import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { bindings, dumpStorage, setClock } from "../durable-objects/objects.ts";
import { type Account, call, must, newAccount, newVm, openWorld, type World } from "./support/world.ts";

const DAY_MS = 24 * 3_600_000;
const INTERNET = { firewall: { rules: [{ action: "allow", source: {}, destination: { public: true } }] } };

let world: World;
beforeAll(async () => {
  world = await openWorld();
});

let account: Account;
beforeEach(async () => {
  account = await newAccount();
  world.host.isReachable = true;
});

const send = (path: string, idempotencyKey: string, body: object = {}, headers: Record<string, string> = {}, as = account) =>
  call(path, { method: "POST", key: as.key, body, headers: { "idempotency-key": idempotencyKey, ...headers } });
const idOf = async (response: Response) => (await response.json<{ id: string }>()).id;
const codeOf = async (response: Response) => `${response.status} ${(await response.json<{ code: string }>()).code}`;
const countVms = async () => (await must<{ totalCount: number }>("/v1/vms", { key: account.key })).totalCount;
const creations = () => world.host.calls.filter(({ method, claims }) => method === "PUT" && claims.op === "create").length;

describe.each([
  ["/v1/vms", {}, { name: "other" }],
  ["/v5/vms", INTERNET, { ...INTERNET, displayName: "other" }],
])("POST %s with an Idempotency-Key", (path, body, other) => {
  it("makes one VM however often it is sent, one after the other or at once", async () => {
    const before = creations();
    const first = await idOf(await send(path, "key-1", body));
    const again = await Promise.all(Array.from({ length: 5 }, async () => idOf(await send(path, "key-1", body))));
    expect(new Set([first, ...again])).toEqual(new Set([first]));
    const atOnce = await Promise.all(Array.from({ length: 5 }, async () => idOf(await send(path, "key-2", body))));
    expect(new Set(atOnce).size).toBe(1);
    expect([await countVms(), creations() - before]).toEqual([2, 2]);
  });

  it("refuses a key that was sent with something else, and makes nothing", async () => {
    await send(path, "key", body);
    const refused = await send(path, "key", other);
    expect([refused.status, await refused.json()]).toMatchObject([
      409,
      { code: "CONFLICT", message: expect.stringContaining("Idempotency-Key") },
    ]);
    expect(await countVms()).toBe(1);
  });

  it("makes another for a key whose attempt came to nothing", async () => {
    world.host.isReachable = false;
    expect((await send(path, "key", body)).status).toBe(503);
    world.host.isReachable = true;
    const made = await send(path, "key", body);
    expect(made.status).toBe(200);
    const id = await idOf(made);
    expect(await idOf(await send(path, "key", body))).toBe(id);
    expect(await countVms()).toBe(1);
  });

  it("makes no other when the VM was deleted meanwhile", async () => {
    const id = await idOf(await send(path, "key", body));
    await call(`/v1/vms/${id}`, { method: "DELETE", key: account.key });
    expect(await codeOf(await send(path, "key", body))).toBe("409 CONFLICT");
    expect(await countVms()).toBe(0);
  });

  it.each(["", "x".repeat(256), "a b", "caf\u00e9"])("refuses the malformed key %j by name", async (malformed) => {
    const refused = await send(path, malformed, body);
    expect([refused.status, await refused.json()]).toMatchObject([
      400,
      { code: "BAD_REQUEST", message: expect.stringContaining("Idempotency-Key") },
    ]);
  });

  it("makes one VM in the background too", async () => {
    const background = { "x-freestyle-background-after-secs": "0" };
    const begun = await Promise.all([1, 2, 3].map(() => send(path, "key", body, background)));
    const ids = await Promise.all(
      begun.map(async (pending) => {
        const { requestId } = await pending.json<{ requestId: string }>();
        for (;;) {
          const polled = await call(`/v5/background-requests/${requestId}`, { key: account.key });
          if (polled.status !== 202) return idOf(polled);
        }
      }),
    );
    expect([new Set(ids).size, await countVms()]).toEqual([1, 1]);
  });
});

it("keys are an account's own", async () => {
  const other = await newAccount();
  const [mine, theirs] = await Promise.all([send("/v1/vms", "key"), send("/v1/vms", "key", {}, {}, other)]);
  expect(await idOf(mine)).not.toBe(await idOf(theirs));
});

it("a key is forgotten after a day, and is never stored itself", async () => {
  const first = await idOf(await send("/v1/vms", "a-key-to-look-for"));
  const object = bindings.ACCOUNT.getByName(account.accountId);
  expect(JSON.stringify(await dumpStorage(object))).not.toContain("a-key-to-look-for");
  await setClock(object, Date.now() + DAY_MS + 1_000);
  expect(await idOf(await send("/v1/vms", "a-key-to-look-for"))).not.toBe(first);
});

it.each([
  ["of a VM", (vmId: string) => `/v1/vms/${vmId}/snapshot`],
  ["of a VM in /v5", (vmId: string) => `/v5/vms/${vmId}/snapshot`],
  ["from a description", () => "/v1/vms/snapshots"],
])("a snapshot %s is taken once for a key", async (_what, pathOf) => {
  const path = pathOf(await newVm(account));
  const take = async () => (await (await send(path, "key")).json<{ snapshotId: string }>()).snapshotId;
  const first = await take();
  expect(await Promise.all([take(), take()])).toEqual([first, first]);
  expect(await must("/v1/vms/snapshots", { key: account.key })).toMatchObject({ totalCount: 1 });
  expect(await countVms()).toBe(1);
});

it("what makes nothing takes no notice of a key", async () => {
  const id = await newVm(account);
  const run = () => send(`/v1/vms/${id}/exec-await`, "key", { command: "id" });
  expect([(await run()).status, (await run()).status]).toEqual([200, 200]);
});
