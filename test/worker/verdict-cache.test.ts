import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { forgetCaches, caches as known } from "../../worker/cache/edge-caches.ts";
import { forgetTickets } from "../../worker/services/edge-tickets.ts";
import { bindings, localRegion, runSql, setClock } from "../durable-objects/objects.ts";
import { CountedEdge, levelsOf } from "./support/counted-edge.ts";
import { call, grantPath, type Identity, must, newAccount, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

let world: World;
let vmId: string;
let identity: Identity;
const edge = new CountedEdge();

beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
});
beforeEach(async () => {
  identity = await newIdentity(world.account, [vmId]);
  world.host.isFeedUp = true;
  forgetCaches();
  forgetTickets();
  edge.taken();
});
afterEach(() => {
  vi.useRealTimers();
  world.host.clock = () => Date.now();
});

const exec = (headers: Record<string, string>, on = edge, vm = vmId) =>
  on.fetch(`/v1/vms/${vm}/exec-await`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ command: "true", terminal: null, timeoutMs: null }),
  });
const byToken = (token = identity.token, on = edge) => exec({ "x-freestyle-identity-access-token": token }, on);
const byKey = (vm = vmId) => exec({ authorization: `Bearer ${world.account.key}` }, edge, vm);
const revokeToken = ({ id, tokenId }: Identity) =>
  must(`/identity/v1/identities/${id}/tokens/${tokenId}`, { method: "DELETE", key: world.account.key });

describe("the hot path", () => {
  it.each([
    ["an access token", () => byToken()],
    ["an API key", () => byKey()],
  ])("of %s asks no Durable Object and fetches nothing but the host", async (_who, send) => {
    expect((await send()).status).toBe(200);
    edge.taken();
    const before = world.host.calls.length;
    const fetched = vi.mocked(globalThis.fetch).mock.calls.length;
    const answers = [];
    for (let count = 0; count < 20; count += 1) answers.push(await send());
    expect(answers.map((answer) => answer.status)).toEqual(Array.from({ length: 20 }, () => 200));
    // The audit trail is written after the answers, many events at a time.
    expect(new Set(edge.taken())).toEqual(new Set(["AUDIT.append"]));
    expect(world.host.calls.length - before).toBe(20);
    expect(vi.mocked(globalThis.fetch).mock.calls.length - fetched).toBe(20);
    for (const answer of answers) {
      expect(levelsOf(answer)).toMatchObject({ verdict: "isolate", placement: "isolate", tenancy: "isolate", ticket: "reused" });
    }
  });

  it("writes many requests' audit events by one call, after their answers", async () => {
    const slow = new CountedEdge({ AUDIT_FLUSH_MS: "300" });
    await byToken(identity.token, slow);
    slow.taken();
    await Promise.all(Array.from({ length: 20 }, () => byToken(identity.token, slow)));
    expect(slow.taken()).toEqual(["AUDIT.append"]);
  });

  it("shows the host one ticket for a burst", async () => {
    await byToken();
    const before = world.host.calls.length;
    for (let count = 0; count < 5; count += 1) await byToken();
    const tickets = world.host.calls.slice(before - 1).map(({ claims }) => claims.jti);
    expect(new Set(tickets).size).toBe(1);
  });

  it("signs again near the ticket's end, and reads again at the verdict's", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    const lazy = new CountedEdge({ VERDICT_REFRESH_AGE_MS: "60000" });
    await byToken(identity.token, lazy);
    vi.setSystemTime(Date.now() + 46_000);
    expect(levelsOf(await byToken(identity.token, lazy))).toMatchObject({ verdict: "isolate", ticket: "signed" });
    // A ticket ends little later than what it says may be used, whenever it was signed.
    const { exp, read_at: readAt } = world.host.calls.at(-1)?.claims ?? expect.fail("the host was asked");
    expect(exp - readAt).toBeLessThanOrEqual(75);
    vi.setSystemTime(Date.now() + 15_000);
    expect(levelsOf(await byToken(identity.token, lazy))).toMatchObject({ verdict: "object", ticket: "signed" });
  });

  it("of a burst on facts near their end waits for no object: they are read again behind the answers, once", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    await byToken();
    vi.setSystemTime(Date.now() + 39_000);
    edge.taken();
    await byToken();
    expect(edge.taken()).not.toContain("IDENTITY.verdict");
    vi.setSystemTime(Date.now() + 2_000);
    const burst = await Promise.all(Array.from({ length: 20 }, () => byToken()));
    expect(new Set(burst.map((answer) => levelsOf(answer).verdict))).toEqual(new Set(["isolate"]));
    const read = edge.taken().filter((name) => name !== "AUDIT.append");
    expect(read.sort()).toEqual(["ACCOUNT.tenancy", "IDENTITY.verdict", "VM.placement"]);
  });

  it("forgets what its object refuses when it is read again behind an answer", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    await byToken();
    // A host that has heard of nothing and whose time stands still goes on admitting.
    const now = Date.now();
    world.host.clock = () => now;
    world.host.isFeedUp = false;
    await revokeToken(identity);
    vi.setSystemTime(now + 41_000);
    expect((await byToken()).status).toBe(200);
    expect((await byToken()).status).toBe(401);
  });
});

describe("a cold request", () => {
  it("is answered by the location when another isolate has asked, and by the objects when none has", async () => {
    expect(levelsOf(await byToken())).toMatchObject({ verdict: "object", ticket: "signed" });
    expect(edge.taken()).toContain("IDENTITY.verdict");
    forgetCaches();
    expect(levelsOf(await byToken())).toMatchObject({ verdict: "colo", placement: "colo", tenancy: "colo" });
    expect(edge.taken()).not.toContain("IDENTITY.verdict");
    expect(levelsOf(await byToken())).toMatchObject({ verdict: "isolate" });
  });

  it("asks the objects of a deployment that shares nothing", async () => {
    const alone = new CountedEdge({ COLO_CACHE: "0" });
    await byToken(identity.token, alone);
    forgetCaches();
    expect(levelsOf(await byToken(identity.token, alone))).toMatchObject({ verdict: "object", placement: "object" });
  });

  it("of a hundred at once asks each object once", async () => {
    const vm = await newVm(world.account);
    await must(grantPath(identity.id, vm), { method: "POST", key: world.account.key, body: {} });
    const alone = new CountedEdge({ COLO_CACHE: "0" });
    const send = () => exec({ "x-freestyle-identity-access-token": identity.token }, alone, vm);
    const answers = await Promise.all(Array.from({ length: 100 }, send));
    expect(answers.every((answer) => answer.status === 200)).toBe(true);
    const asked = alone.taken().filter((name) => name !== "AUDIT.append" && !name.startsWith("SIGNING_KEYS"));
    expect(asked.sort()).toEqual(["ACCOUNT.tenancy", "IDENTITY.verdict", "VM.placement"]);
    expect(new Set(answers.map((answer) => levelsOf(answer).verdict))).toEqual(new Set(["object", "shared"]));
  });

  it("keeps no more verdicts than the setting says", async () => {
    const small = new CountedEdge({ VERDICT_CACHE_ENTRIES: "2" });
    const others = await Promise.all([1, 2, 3].map(() => newIdentity(world.account, [vmId])));
    for (const { token } of others) expect((await byToken(token, small)).status).toBe(200);
    expect(known.verdicts.size).toBe(2);
  });
});

describe("what the edge knows is no reason to let somebody in who may not", () => {
  it("a verdict ends with its token's own expiry", async () => {
    const { token } = await must<{ token: string }>(`/v5/identities/${identity.id}/tokens`, {
      method: "POST",
      key: world.account.key,
      body: { expiresInSeconds: 30 },
    });
    vi.useFakeTimers({ toFake: ["Date"] });
    expect((await byToken(token)).status).toBe(200);
    vi.setSystemTime(Date.now() + 31_000);
    await setClock(bindings.IDENTITY.getByName(identity.id), Date.now());
    expect((await byToken(token)).status).toBe(401);
  });

  it("one verdict is no other's: not for another user, VM or operation, nor for another token of the identity", async () => {
    const second = await must<{ token: string }>(`/identity/v1/identities/${identity.id}/tokens`, {
      method: "POST",
      key: world.account.key,
    });
    await byToken();
    edge.taken();
    const asRoot = { "x-freestyle-identity-access-token": identity.token };
    await exec({ ...asRoot, "x-freestyle-vm-linux-user-id": "alice" });
    await byToken(second.token);
    await edge.fetch(`/v1/vms/${vmId}/files/%2F`, { headers: asRoot });
    expect(edge.taken().filter((name) => name === "IDENTITY.verdict").length).toBe(3);
    expect((await exec(asRoot, edge, await newVm(world.account))).status).toBe(404);
  });

  it("an API key that is known reaches no other account's VM, known or not", async () => {
    const other = await newAccount();
    const theirs = await newVm(other);
    await byKey();
    expect((await byKey(theirs)).status).toBe(404);
    await exec({ authorization: `Bearer ${other.key}` }, edge, theirs);
    expect((await byKey(theirs)).status).toBe(404);
  });

  it("what the edge answers itself never comes from a cache", async () => {
    await byToken();
    world.host.isFeedUp = false;
    await revokeToken(identity);
    const headers = { "x-freestyle-identity-access-token": identity.token };
    for (const [method, path] of [
      ["GET", `/v1/vms/${vmId}`],
      ["POST", `/v1/vms/${vmId}/start`],
      ["POST", `/v5/vms/${vmId}/ssh-ticket`],
      ["POST", `/v5/vms/${vmId}/terminal-ticket`],
    ] as const) {
      const json = { ...headers, "content-type": "application/json" };
      const answer = await edge.fetch(path, { method, headers: json, ...(method === "POST" ? { body: "{}" } : {}) });
      expect([path, answer.status]).toEqual([path, 401]);
    }
  });

  it("a body that streams, which can be sent once only, goes by a verdict that was read just now", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    const upload = () =>
      edge.fetch(`/v5/vms/${vmId}/fs/write?path=%2Ftmp%2Fa`, {
        method: "PUT",
        headers: { "x-freestyle-identity-access-token": identity.token, "content-type": "application/octet-stream" },
        body: new Blob(["content"]).stream(),
      });
    await upload();
    vi.setSystemTime(Date.now() + 2_000);
    edge.taken();
    await upload();
    expect(edge.taken()).toContain("IDENTITY.verdict");
  });
});

describe("a refusal", () => {
  it("is repeated for a moment without its object being asked", async () => {
    await must(grantPath(identity.id, vmId), { method: "DELETE", key: world.account.key });
    for (let count = 0; count < 5; count += 1) expect((await byToken()).status).toBe(404);
    expect(edge.taken().filter((name) => name === "IDENTITY.verdict").length).toBe(1);
  });

  it("ends with its time", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    await revokeToken(identity);
    await byToken();
    vi.setSystemTime(Date.now() + 2_001);
    edge.taken();
    expect((await byToken()).status).toBe(401);
    expect(edge.taken()).toContain("IDENTITY.verdict");
  });

  it.each(["grant", "wider users"])("ends at once for whoever widened: %s", async (what) => {
    const key = world.account.key;
    const path = grantPath(identity.id, vmId);
    if (what === "grant") await must(path, { method: "DELETE", key });
    else await must(path, { method: "PUT", key, body: { allowedUsers: ["alice"] } });
    expect((await byToken()).status).toBe(what === "grant" ? 404 : 403);
    expect((await byToken()).status).toBe(what === "grant" ? 404 : 403);
    await must(path, { method: what === "grant" ? "POST" : "PUT", key, body: { allowedUsers: null } });
    expect((await byToken()).status).toBe(200);
  });

  it("says nothing about how long it took to find", async () => {
    const answer = await call(`/v1/vms/${vmId}/exec-await`, { method: "POST", token: identity.token, linuxUser: "No", body: {} });
    expect(answer.status).toBe(400);
    expect(answer.headers.get("server-timing")).toBeNull();
  });
});

describe("a host that is not where the edge believes", () => {
  it("is looked up again when it does not answer, and what may be repeated is", async () => {
    await byToken();
    const { host } = world;
    const { url } = host;
    host.url = `http://moved-${host.id}.hosts.test`;
    await runSql(await localRegion(), `UPDATE hosts SET url = '${host.url}' WHERE id = '${host.id}'`);
    const read = await edge.fetch(`/v1/vms/${vmId}/files/%2F`, {
      headers: { "x-freestyle-identity-access-token": identity.token },
    });
    expect(read.status).toBe(200);
    expect((await byToken()).status).toBe(200);
    await runSql(await localRegion(), `UPDATE hosts SET url = '${url}' WHERE id = '${host.id}'`);
    host.url = url;
    // A command may have been begun: it is not sent a second time, and the next one finds the host.
    expect((await byToken()).status).toBe(503);
    expect((await byToken()).status).toBe(200);
  });
});
