import { runInDurableObject } from "cloudflare:test";
import { beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newObjectName } from "../../protocol/ids.ts";
import { bindings, dumpStorage, setClock, setSettings } from "../durable-objects/objects.ts";
import { served } from "./support/served.ts";
import {
  type Account,
  call,
  grantPath,
  type Identity,
  must,
  newAccount,
  newIdentity,
  newVm,
  OPERATOR_KEY,
  ORIGIN,
  openWorld,
  type World,
} from "./support/world.ts";

interface Event {
  readonly id: number;
  readonly operation: string;
  readonly subject: string;
  readonly verdict: string;
  readonly failure: string | null;
  readonly vmId: string | null;
  readonly identityId: string | null;
  readonly linuxUser: string | null;
  readonly credentialId: string | null;
  readonly clientAddress: string | null;
  readonly traceId: string;
  readonly at: string;
}

let world: World;
beforeAll(async () => {
  world = await openWorld();
});

let account: Account;
let vmId: string;
let identity: Identity;
beforeEach(async () => {
  account = await newAccount();
  vmId = await newVm(account);
  identity = await newIdentity(account, [vmId], ["developer"]);
});

async function events(query = "", { key } = account): Promise<Event[]> {
  return (await must<{ events: Event[] }>(`/v5/audit-events${query}`, { key })).events;
}

/** The newest event that matches, once it is written. */
async function written(expected: Partial<Event>): Promise<Event> {
  return vi.waitUntil(async () =>
    (await events()).find((event) => Object.entries(expected).every(([name, value]) => event[name as keyof Event] === value)),
  );
}

const execPath = (vm = vmId) => `/v1/vms/${vm}/exec-await`;
const exec = (shown: { key?: string; token?: string }, vm = vmId, linuxUser = "developer") =>
  call(execPath(vm), { method: "POST", linuxUser, body: { command: "secret-command" }, ...shown });

describe("the trail has, when the answer is there,", () => {
  it("every change that an account made, with who, what, on what and whence", async () => {
    await must(grantPath(identity.id, vmId), { method: "PUT", key: account.key, body: { allowedUsers: null } });
    await must(`/identity/v1/identities/${identity.id}/tokens/${identity.tokenId}`, { method: "DELETE", key: account.key });
    await must(`/v1/vms/${vmId}/stop`, { method: "POST", key: account.key });
    await must(`/v1/vms/${vmId}`, { method: "DELETE", key: account.key });
    const listed = await events();
    expect(listed.map(({ operation, verdict }) => `${operation} ${verdict}`)).toEqual([
      "DELETE /v1/vms/{vmId} allowed",
      "POST /v1/vms/{vmId}/stop allowed",
      "DELETE /identity/v1/identities/{identityId}/tokens/{tokenId} allowed",
      "PUT /identity/v1/identities/{identityId}/permissions/vm/{vmId} allowed",
      "POST /identity/v1/identities/{identityId}/tokens allowed",
      "POST /identity/v1/identities/{identityId}/permissions/vm/{vmId} allowed",
      "POST /identity/v1/identities allowed",
      "POST /v1/vms allowed",
      "POST /operator/v1/accounts allowed",
    ]);
    expect(listed[3]).toMatchObject({ subject: `account:${account.accountId}`, vmId, identityId: identity.id, failure: null });
    expect(listed[3]?.credentialId).toMatch(/^[a-z2-7]{16}$/);
    expect(listed[6]).toMatchObject({ identityId: identity.id });
    expect(listed[7]).toMatchObject({ vmId });
    expect(listed[8]).toMatchObject({ subject: "operator", credentialId: null });
  });

  it("the operator's changes of its keys", async () => {
    const path = `/operator/v1/accounts/${account.accountId}/api-keys`;
    const { keyId } = await must<{ keyId: string }>(path, { method: "POST", key: OPERATOR_KEY, body: {} });
    await must(`${path}/${keyId}`, { method: "DELETE", key: OPERATOR_KEY });
    expect((await events("?limit=2")).map(({ operation }) => operation)).toEqual([
      "DELETE /operator/v1/accounts/{accountId}/api-keys/{keyId}",
      "POST /operator/v1/accounts/{accountId}/api-keys",
    ]);
  });

  it("the trace id of the answer and the address of the caller", async () => {
    const headers = { "cf-connecting-ip": "192.0.2.77" };
    const response = await call("/identity/v1/identities", { method: "POST", key: account.key, headers });
    const [event] = await events("?limit=1");
    expect(event).toMatchObject({ traceId: response.headers.get("x-freestyle-trace-id"), clientAddress: "192.0.2.77" });
    expect(Math.abs(Date.parse(event?.at ?? "") - Date.now())).toBeLessThan(60_000);
  });
});

it("a change that cannot be entered is not acknowledged", async () => {
  const append = async () => {
    throw Object.assign(new Error("away"), { overloaded: true });
  };
  const env = { ...bindings, AUDIT: { getByName: () => ({ append }) } };
  const init = { method: "POST", headers: { authorization: `Bearer ${account.key}` } };
  const response = await served(`${ORIGIN}/identity/v1/identities`, init, env);
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({ code: "SERVICE_UNAVAILABLE" });
});

describe("the trail has soon", () => {
  it("what was done in a VM, as whom", async () => {
    expect((await exec(identity)).status).toBe(200);
    expect(await written({ operation: "POST /v1/vms/{vmId}/exec-await" })).toMatchObject({
      subject: `identity:${identity.id}`,
      credentialId: identity.tokenId,
      vmId,
      linuxUser: "developer",
      verdict: "allowed",
    });
  });

  it.each([
    ["a Linux user that is not granted", { linuxUser: "root" }, "linux-user-forbidden"],
    ["a VM that is not granted", { vm: "a".repeat(20) }, "vm-not-found"],
  ])(
    "an access token's try for %s",
    async (_what, { vm = vmId, linuxUser = "developer" }: { vm?: string; linuxUser?: string }, failure) => {
      await exec(identity, vm, linuxUser);
      const event = await written({ failure });
      expect(event).toMatchObject({ verdict: "refused", vmId: vm, linuxUser, subject: `identity:${identity.id}` });
    },
  );

  it("an access token's try to do what only a key may", async () => {
    await call(`/v1/vms/${vmId}`, { method: "DELETE", token: identity.token });
    expect(await written({ failure: "forbidden" })).toMatchObject({ vmId, verdict: "refused", credentialId: identity.tokenId });
  });

  it("a key's try for another account's VM, in its own trail and not in the other's", async () => {
    const foreign = await newVm(world.account);
    await exec({ key: account.key }, foreign);
    expect(await written({ failure: "vm-not-found" })).toMatchObject({ vmId: foreign, verdict: "refused" });
    expect((await events(`?vmId=${foreign}&verdict=refused`, world.account)).length).toBe(0);
  });

  it("SSH logins, admitted and refused, with the address that the forwarder saw", async () => {
    const login = async (linuxUser: string) =>
      call("/service/v1/ssh-tickets", {
        method: "POST",
        key: await world.forwarder.assertion(),
        body: {
          vmId,
          linuxUser,
          token: identity.token,
          forwarderId: newObjectName(platformRandomBytes),
          clientAddress: "198.51.100.4",
        },
      });
    expect((await login("developer")).status).toBe(200);
    expect((await login("root")).status).toBe(403);
    const common = { operation: "ssh-login", vmId, clientAddress: "198.51.100.4", credentialId: identity.tokenId };
    expect(await written({ operation: "ssh-login", verdict: "allowed" })).toMatchObject({ ...common, linuxUser: "developer" });
    expect(await written({ operation: "ssh-login", verdict: "refused" })).toMatchObject({ ...common, linuxUser: "root" });
  });
});

it("the trail has nothing of strangers, nor of lists that were allowed", async () => {
  const before = (await events()).length;
  await call("/v1/vms", { key: account.key });
  await call("/v1/vms");
  await exec({ token: `${identity.token.slice(0, -1)}x` });
  const { id, tokenId, token } = await newIdentity(account, [vmId]);
  await must(`/identity/v1/identities/${id}/tokens/${tokenId}`, { method: "DELETE", key: account.key });
  await exec({ token });
  await exec(identity);
  await written({ operation: "POST /v1/vms/{vmId}/exec-await" });
  expect((await events()).length).toBe(before + 5);
});

it("no credential, command or path in a guest is ever in the trail", async () => {
  const { key } = account;
  await exec(identity);
  await call(`/v1/vms/${vmId}/files/%2Fsecret-path`, { key });
  // A credential where a name belongs.
  await call(execPath(), { method: "POST", token: identity.token, linuxUser: identity.token, body: { command: "true" } });
  await call(`/v1/vms/${identity.token}`, { key });
  await written({ operation: "GET /v1/vms/{vmId}/files/{path}" });
  await written({ operation: "GET /v1/vms/{vmId}" });
  const stored = await dumpStorage(bindings.AUDIT.getByName(account.accountId));
  for (const secret of [key, identity.token, key.slice(20, 44), identity.token.slice(20, 44), "secret-command", "secret-path"]) {
    expect(stored).not.toContain(secret);
  }
});

describe("GET /v5/audit-events", () => {
  it("is for API keys of the account", async () => {
    expect((await call("/v5/audit-events")).status).toBe(401);
    expect((await call("/v5/audit-events", { token: identity.token })).status).toBe(403);
    expect((await events("", await newAccount())).every(({ subject }) => subject === "operator")).toBe(true);
  });

  it.each(["limit=0", "limit=x", "before=0", "before=-1", "verdict=maybe", "vmid=x", "before=1.5"])(
    "refuses ?%s by name",
    async (query) => {
      const response = await call(`/v5/audit-events?${query}`, { key: account.key });
      expect(response.status).toBe(400);
      expect((await response.json<{ message: string }>()).message).toContain(query.split("=")[0]);
    },
  );

  it("narrows by VM, identity and verdict", async () => {
    const other = await newVm(account);
    await exec(identity, other);
    await written({ vmId: other, verdict: "refused" });
    expect(new Set((await events(`?vmId=${other}`)).map((event) => event.vmId))).toEqual(new Set([other]));
    expect((await events(`?vmId=${other}&verdict=refused`)).map(({ failure }) => failure)).toEqual(["vm-not-found"]);
    const byIdentity = await events(`?identityId=${identity.id}`);
    expect(byIdentity.some(({ subject }) => subject === `identity:${identity.id}`)).toBe(true);
    expect(byIdentity.some(({ subject, operation }) => subject.startsWith("account:") && operation.endsWith("/tokens"))).toBe(true);
  });

  it("pages from the newest to the oldest without a gap, while new ones come", async () => {
    const all = (await events()).map(({ id }) => id);
    const seen: number[] = [];
    let before: number | null = null;
    do {
      const page: { events: Event[]; nextBefore: number | null } = await must(
        `/v5/audit-events?limit=2${before === null ? "" : `&before=${before}`}`,
        { key: account.key },
      );
      seen.push(...page.events.map(({ id }) => id));
      before = page.nextBefore;
      await call("/identity/v1/identities", { method: "POST", key: account.key });
    } while (before !== null);
    expect(seen).toEqual(all);
  });
});

describe("an account's trail is bounded", () => {
  const event = {
    at: 0,
    traceId: "t",
    subject: "operator",
    credentialId: null,
    operation: "x",
    vmId: null,
    identityId: null,
    linuxUser: null,
    clientAddress: null,
    verdict: "allowed",
    failure: null,
  } as const;
  const fresh = () => bindings.AUDIT.getByName(newObjectName(platformRandomBytes));
  const idsOf = async (stub: ReturnType<typeof fresh>) => {
    const listed = await stub.list({ limit: 100 });
    return listed.ok ? listed.value.map(({ id }) => id) : [];
  };

  it("in one batch as large as any: each event as it was given, in its order", async () => {
    const stub = fresh();
    const odd = { ...event, credentialId: "007", linuxUser: "1e3", clientAddress: `"'\\\n\u2028 \u00e9\u{1f600}`, at: Date.now() };
    const plain = Array.from({ length: 9_999 }, (_, number) => ({
      ...event,
      at: odd.at + number,
      traceId: String(number).padStart(300, "0"),
    }));
    await stub.append([odd, ...plain]);
    const listed = await stub.list({ before: 4, limit: 100 });
    expect(listed).toEqual({
      ok: true,
      value: [
        { ...plain[1], id: 3 },
        { ...plain[0], id: 2 },
        { ...odd, id: 1 },
      ],
    });
    await runInDurableObject(stub, (_object, state) => {
      const types = "typeof(at) AS at, typeof(credential_id) AS credential, typeof(vm_id) AS vm";
      const [first] = state.storage.sql.exec(`SELECT ${types} FROM events WHERE id = 1`).toArray();
      expect(first).toEqual({ at: "integer", credential: "text", vm: "null" });
      expect(state.storage.sql.exec("SELECT COUNT(*) AS count, MAX(id) AS id FROM events").one()).toEqual({
        count: 10_000,
        id: 10_000,
      });
    });
  });

  it("in number: the oldest go first", async () => {
    const stub = fresh();
    await setSettings(stub, { AUDIT_MAX_EVENTS: 3 });
    for (let count = 0; count < 5; count += 1) await stub.append([{ ...event, at: Date.now() }]);
    expect(await idsOf(stub)).toEqual([5, 4, 3]);
  });

  it("in age: what is too old is not listed, and is gone after the alarm", async () => {
    const stub = fresh();
    await stub.append([{ ...event, at: 1_000 }]);
    await setClock(stub, 1_000);
    await stub.append([{ ...event, at: 1_000 }]);
    expect((await idsOf(stub)).length).toBe(2);
    await setClock(stub, 1_000 + 31 * 86_400_000);
    expect(await idsOf(stub)).toEqual([]);
    await runInDurableObject(stub, async (object, state) => {
      await object.alarm();
      expect(state.storage.sql.exec("SELECT * FROM events").toArray()).toEqual([]);
    });
  });

  it("and asking for one that never was makes nothing", async () => {
    const stub = fresh();
    expect(await idsOf(stub)).toEqual([]);
    await runInDurableObject(stub, (_object, state) => {
      const tables = state.storage.sql.exec("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'events'").toArray();
      expect(tables).toEqual([]);
    });
  });
});
