import { runDurableObjectAlarm } from "cloudflare:test";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { accountSubject, identitySubject } from "../../protocol/subjects.ts";
import { bindings, setClock } from "../durable-objects/objects.ts";
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
  openWorld,
  type World,
} from "./support/world.ts";

/** Everything that can be taken away, from a caller whose verdict, place and account the edge knows. */

let world: World;
let account: Account;
let vmId: string;
let identity: Identity;

beforeAll(async () => {
  world = await openWorld();
});
beforeEach(async () => {
  account = await newAccount();
  vmId = await newVm(account);
  identity = await newIdentity(account, [vmId], ["alice", "bob"]);
  world.host.isFeedUp = true;
});
afterEach(() => {
  world.host.clock = () => Date.now();
});

type Caller = { readonly key: string } | { readonly token: string };

const exec = (credential: Caller, linuxUser = "alice") =>
  call(`/v1/vms/${vmId}/exec-await`, {
    method: "POST",
    ...credential,
    linuxUser,
    body: { command: "true", terminal: null, timeoutMs: null },
  });
const theToken = () => ({ token: identity.token });
const theKey = () => ({ key: account.key });
const byToken = () => exec(theToken());
const byKey = () => exec(theKey());
const operator = (method: string, path: string, body?: object) => must(`/operator/v1${path}`, { method, key: OPERATOR_KEY, body });
const owner = (method: string, path: string, body?: object) => must(path, { method, key: account.key, body });
const suspend = () => operator("POST", `/accounts/${account.accountId}/suspend`);

const NARROWINGS: readonly (readonly [what: string, narrow: () => Promise<unknown>, caller: () => Caller, status: number])[] = [
  ["a token revoked", () => owner("DELETE", `/identity/v1/identities/${identity.id}/tokens/${identity.tokenId}`), theToken, 401],
  ["a grant revoked", () => owner("DELETE", grantPath(identity.id, vmId)), theToken, 404],
  ["allowedUsers narrowed", () => owner("PUT", grantPath(identity.id, vmId), { allowedUsers: ["bob"] }), theToken, 403],
  ["an identity deleted", () => owner("DELETE", `/identity/v1/identities/${identity.id}`), theToken, 401],
  ["an API key revoked", () => revokeKey(), theKey, 401],
  ["an account suspended, to its key", suspend, theKey, 403],
  ["an account suspended, to its identity's token", suspend, theToken, 403],
  ["a VM deleted, to the key", () => owner("DELETE", `/v1/vms/${vmId}`), theKey, 404],
  ["a VM deleted, to a token", () => owner("DELETE", `/v1/vms/${vmId}`), theToken, 404],
  ["a VM moved to another account, to the key of the old one", () => move(), theKey, 404],
  ["a VM moved to another account, to a token of the old one", () => move(), theToken, 404],
];

async function keyId(): Promise<string> {
  const { keys } = await must<{ keys: { id: string }[] }>(`/operator/v1/accounts/${account.accountId}/api-keys`, {
    key: OPERATOR_KEY,
  });
  return keys[0]?.id ?? expect.fail("the account has no key");
}

const revokeKey = async () => operator("DELETE", `/accounts/${account.accountId}/api-keys/${await keyId()}`);

async function move(): Promise<Account> {
  const next = await newAccount();
  await operator("POST", `/vms/${vmId}/transfer`, { accountId: next.accountId });
  return next;
}

/** Everything else by which a caller may act as `alice` on the VM; each is a question to the objects. */
async function otherDoors(caller: Caller): Promise<readonly (readonly [door: string, ask: () => Promise<Response>])[]> {
  const isToken = "token" in caller;
  const session = {
    subject: isToken ? identitySubject(identity.id) : accountSubject(account.accountId),
    credentialId: isToken ? identity.tokenId : await keyId(),
    vmId,
    linuxUser: "alice",
  };
  const login = {
    vmId,
    linuxUser: "alice",
    token: isToken ? caller.token : caller.key,
    forwarderId: "f".repeat(16),
    clientAddress: "192.0.2.1",
  };
  const post = (path: string, options: object) => call(path, { method: "POST", ...options });
  const { forwarder, hostService: host } = world;
  return [
    ["a forwarder's login", async () => post("/service/v1/ssh-tickets", { key: await forwarder.assertion(), body: login })],
    ["a client's ticket", () => post(`/v5/vms/${vmId}/ssh-ticket`, { ...caller, body: { linuxUser: "alice" } })],
    [
      "a live SSH session, to its forwarder",
      async () => post("/service/v1/session-checks", { key: await forwarder.assertion(), body: { ...session, operation: "ssh" } }),
    ],
    [
      "a live terminal, to its host",
      async () => post("/service/v1/session-checks", { key: await host.assertion(), body: { ...session, operation: "terminal" } }),
    ],
  ];
}

describe.each(NARROWINGS)("%s", (_what, narrow, caller, status) => {
  const send = () => exec(caller());

  it("is refused at every other door with the next question", async () => {
    const doors = await otherDoors(caller());
    for (const [door, ask] of doors) expect([door, (await ask()).status]).toEqual([door, 200]);
    await narrow();
    for (const [door, ask] of doors) expect([door, (await ask()).status]).toEqual([door, status]);
  });

  it("is refused at once, because the host knows the floor", async () => {
    expect((await send()).status).toBe(200);
    const before = world.host.refusals.length;
    await narrow();
    expect((await send()).status).toBe(status);
    expect(world.host.refusals.slice(before)).toEqual(["stale-epoch"]);
    const calls = world.host.calls.length;
    expect((await send()).status).toBe(status);
    expect(world.host.calls.length).toBe(calls);
  });

  it("is refused within 20 s by a host that hears no floors", async () => {
    world.host.isFeedUp = false;
    expect((await send()).status).toBe(200);
    const before = world.host.refusals.length;
    await narrow();
    world.host.clock = () => Date.now() + 20_000;
    expect((await send()).status).toBe(status);
    expect(world.host.refusals.slice(before)).toEqual(["stale-authority"]);
  });
});

it("a token that expires raises the epoch, so that its sessions end", async () => {
  const { token } = await must<{ token: string }>(`/identity/v1/identities/${identity.id}/tokens`, {
    method: "POST",
    key: account.key,
    body: { expiresInSeconds: 60 },
  });
  expect((await exec({ token })).status).toBe(200);
  const object = bindings.IDENTITY.getByName(identity.id);
  await setClock(object, Date.now() + 61_000);
  expect(await runDurableObjectAlarm(object)).toBe(true);
  const before = world.host.refusals.length;
  expect((await exec({ token })).status).toBe(401);
  expect(world.host.refusals.slice(before)).toEqual(["stale-epoch"]);
});

describe("others do not notice", () => {
  it("another token of the identity whose token was revoked, nor another identity of the account", async () => {
    const second = await must<{ token: string }>(`/identity/v1/identities/${identity.id}/tokens`, {
      method: "POST",
      key: account.key,
    });
    const neighbour = await newIdentity(account, [vmId]);
    await exec({ token: second.token });
    await owner("DELETE", `/identity/v1/identities/${identity.id}/tokens/${identity.tokenId}`);
    expect((await exec({ token: second.token })).status).toBe(200);
    expect((await exec({ token: neighbour.token })).status).toBe(200);
  });

  it("other accounts, when one is suspended, nor the account's other VMs, when one moves", async () => {
    const other = await newAccount();
    const theirs = await newVm(other);
    await suspend();
    const body = { command: "true", terminal: null, timeoutMs: null };
    expect((await call(`/v1/vms/${theirs}/exec-await`, { method: "POST", key: other.key, body })).status).toBe(200);
  });

  it("the new owner of a VM that moved, who has it at once, known elsewhere or not", async () => {
    await byKey();
    const next = await move();
    const answer = await call(`/v1/vms/${vmId}/exec-await`, { method: "POST", key: next.key, body: { command: "true" } });
    expect(answer.status).toBe(200);
    const { vms } = await must<{ vms: { id: string }[] }>("/v1/vms", { key: next.key });
    expect(vms.map(({ id }) => id)).toEqual([vmId]);
    expect((await must<{ vms: unknown[] }>("/v1/vms", { key: account.key })).vms).toEqual([]);
  });
});

describe("widening raises no epoch", () => {
  it.each([
    ["another VM granted", async () => owner("POST", grantPath(identity.id, await newVm(account)), {})],
    ["users widened", () => owner("PUT", grantPath(identity.id, vmId), { allowedUsers: null })],
    ["another token", () => owner("POST", `/identity/v1/identities/${identity.id}/tokens`)],
    ["another API key", () => operator("POST", `/accounts/${account.accountId}/api-keys`, {})],
    ["a suspended account resumed", () => operator("POST", `/accounts/${account.accountId}/resume`)],
  ])("%s", async (_what, widen) => {
    await byToken();
    const before = world.host.refusals.length;
    await widen();
    expect((await byToken()).status).toBe(200);
    expect(world.host.refusals.length).toBe(before);
  });

  it("and an account that is resumed is served at once", async () => {
    await suspend();
    expect((await byToken()).status).toBe(403);
    expect((await call(`/v1/vms/${vmId}`, { token: identity.token })).status).toBe(403);
    await operator("POST", `/accounts/${account.accountId}/resume`);
    expect((await byToken()).status).toBe(200);
    expect((await byKey()).status).toBe(200);
  });
});

it.each([
  ["no such account", () => ({ accountId: "a".repeat(16) }), 404],
  ["a malformed account", () => ({ accountId: "../x" }), 404],
  ["no account", () => ({}), 400],
] as const)("a VM is not moved to %s, and stays where it is", async (_what, body, status) => {
  const answer = await call(`/operator/v1/vms/${vmId}/transfer`, { method: "POST", key: OPERATOR_KEY, body: body() });
  expect(answer.status).toBe(status);
  expect((await byToken()).status).toBe(200);
});

it("only the operator suspends and moves", async () => {
  for (const path of [`/accounts/${account.accountId}/suspend`, `/accounts/${account.accountId}/resume`, `/vms/${vmId}/transfer`]) {
    const answer = await call(`/operator/v1${path}`, { method: "POST", key: account.key, body: { accountId: account.accountId } });
    expect(answer.status).toBe(401);
  }
});
