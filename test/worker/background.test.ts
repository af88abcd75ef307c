import { createExecutionContext, runInDurableObject, waitOnExecutionContext } from "cloudflare:test";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newBackgroundId } from "../../protocol/ids.ts";
import { bindings } from "../durable-objects/objects.ts";
import { served } from "./support/served.ts";
import { failed, jobDone, jobFailed, jobRuns } from "./support/stub-host.ts";
import {
  type Account,
  call,
  grantPath,
  type Identity,
  must,
  newAccount,
  newIdentity,
  newVm,
  ORIGIN,
  openWorld,
  type World,
} from "./support/world.ts";

const ID_HEADER = "x-freestyle-background-request-id";
/** The header that asks for it; 0: at once. */
const now = { "x-freestyle-background-after-secs": "0" };

let world: World;
let vmId: string;
let identity: Identity;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account, { users: [{ name: "developer" }] });
  identity = await newIdentity(world.account, [vmId]);
});

const execPath = (vm = vmId) => `/v5/vms/${vm}/exec-await`;
const pollPath = (id: string, dialect: "v1" | "v5" = "v5") =>
  dialect === "v5" ? `/v5/background-requests/${id}` : `/auth/v1/background-requests/${id}`;

/** Starts a command that goes on in the background, and answers its id. */
async function begun(shown: { key?: string; token?: string }, linuxUser?: string): Promise<string> {
  world.host.answerNext(jobRuns);
  const response = await call(execPath(), { method: "POST", headers: now, body: { command: "sleep 1", linuxUser }, ...shown });
  expect(response.status).toBe(202);
  return response.headers.get(ID_HEADER) ?? "";
}

/** Polls until the answer is no 202. */
async function polled(id: string, key: string, dialect: "v1" | "v5" = "v5"): Promise<Response> {
  return vi.waitUntil(async () => {
    const response = await call(pollPath(id, dialect), { key });
    return response.status === 202 ? undefined : response;
  });
}

describe("a command", () => {
  it("is answered at once when the request does not ask for the background, however long it takes", async () => {
    const before = world.host.calls.length;
    const response = await call(execPath(), { method: "POST", key: world.account.key, body: { command: "sleep 1" } });
    expect(response.status).toBe(200);
    expect(world.host.calls.slice(before).map(({ path }) => path)).toEqual([`/vms/${vmId}/exec`]);
  });

  it.each(["x", "-1", "1.5", "", "1e9", "99999999"])("is answered at once when the header says %j", async (value) => {
    const headers = { "x-freestyle-background-after-secs": value };
    const response = await call(execPath(), { method: "POST", key: world.account.key, headers, body: { command: "true" } });
    expect(response.status).toBe(200);
    expect(world.host.calls.at(-1)?.path).toBe(`/vms/${vmId}/exec`);
  });

  it("that ends in time is answered at once, and nothing of it is kept", async () => {
    const headers = { "x-freestyle-background-after-secs": "5" };
    const response = await call(execPath(), { method: "POST", key: world.account.key, headers, body: { command: "true" } });
    expect([response.status, response.headers.get(ID_HEADER)]).toEqual([200, null]);
    expect(await response.json()).toEqual({ stdout: "ran\n", stderr: "", statusCode: 0 });
    const served = world.host.calls.at(-1);
    expect(served?.search).toBe("?waitMs=5000");
    const id = served?.path.split("/").at(-1) ?? "";
    expect(id).toMatch(/^ri-[a-z0-9]{20}$/);
    expect((await call(pollPath(id), { key: world.account.key })).status).toBe(404);
  });

  it("never waits for longer than the setting, and never when the setting is 0", async () => {
    const headers = { "x-freestyle-background-after-secs": "999999" };
    await call(execPath(), { method: "POST", key: world.account.key, headers, body: { command: "true" } });
    expect(world.host.calls.at(-1)?.search).toBe("?waitMs=20000");
    const context = createExecutionContext();
    const init = {
      method: "POST",
      headers: { ...headers, authorization: `Bearer ${world.account.key}` },
      body: JSON.stringify({ command: "true" }),
    };
    await served(`${ORIGIN}${execPath()}`, init, { ...bindings, BACKGROUND_MAX_WAIT_S: "0" }, context);
    await waitOnExecutionContext(context);
    expect(world.host.calls.at(-1)?.path).toBe(`/vms/${vmId}/exec`);
  });

  it.each(["key", "token"] as const)("goes on with a %s, and both dialects answer polls until it is done", async (kind) => {
    const shown = kind === "key" ? { key: world.account.key } : { token: identity.token };
    const id = await begun(shown);
    expect(id).toMatch(/^ri-[a-z0-9]{20}$/);
    for (const dialect of ["v1", "v5"] as const) {
      world.host.answerNext(jobRuns);
      const waiting = await call(pollPath(id, dialect), shown);
      expect([waiting.status, waiting.headers.get(ID_HEADER)]).toEqual([202, id]);
      expect(await waiting.json()).toEqual({ requestId: id, status: expect.any(String) });
      world.host.answerNext(() => jobDone({ stdout: "late\n", stderr: "", statusCode: 3 }));
      const done = await call(pollPath(id, dialect), shown);
      expect([done.status, done.headers.get(ID_HEADER)]).toEqual([200, id]);
      expect(await done.json()).toEqual({ stdout: "late\n", stderr: "", statusCode: 3 });
    }
    expect(world.host.calls.at(-1)).toMatchObject({ method: "GET", path: `/vms/${vmId}/jobs/${id}` });
  });

  it("goes on for clients of 0.1 too", async () => {
    world.host.answerNext(jobRuns);
    const body = { command: "sleep 1", terminal: null, timeoutMs: null };
    const path = `/v1/vms/${vmId}/exec-await`;
    const response = await call(path, { method: "POST", key: world.account.key, headers: now, body });
    expect(response.status).toBe(202);
    expect(await response.json()).toEqual({ requestId: response.headers.get(ID_HEADER), status: expect.any(String) });
  });

  it("that fails in the background is answered as it would have been, with the header that makes it final", async () => {
    const shown = { key: world.account.key };
    const id = await begun(shown);
    world.host.answerNext(() => jobFailed({ kind: "exec-output-too-large", message: "too much" }));
    const tooMuch = await call(pollPath(id), shown);
    expect([tooMuch.status, tooMuch.headers.get(ID_HEADER)]).toEqual([413, id]);
    expect(await tooMuch.json()).toMatchObject({ code: "PAYLOAD_TOO_LARGE" });
    const timedOut = { kind: "exec-timed-out", message: "slow", details: { stdout: "so far", stderr: "", timeoutMs: 5 } } as const;
    world.host.answerNext(() => jobFailed(timedOut));
    expect(await (await call(pollPath(id), shown)).json()).toEqual({ stdout: "so far", stderr: "", statusCode: null });
    world.host.answerNext(() => jobFailed(timedOut));
    const older = await call(pollPath(id, "v1"), shown);
    expect([older.status, older.headers.get(ID_HEADER)]).toEqual([408, id]);
  });

  it("is refused before anything goes on", async () => {
    const options = { method: "POST", headers: now };
    const tooLong = { command: "true", timeoutMs: 100_000_000 };
    expect((await call(execPath(), { ...options, key: world.account.key, body: tooLong })).status).toBe(400);
    const stranger = await newIdentity(world.account);
    expect((await call(execPath(), { ...options, token: stranger.token, body: { command: "true" } })).status).toBe(404);
    world.host.answerNext(() => failed("linux-user-not-found", "nobody"));
    expect((await call(execPath(), { ...options, key: world.account.key, body: { command: "true" } })).status).toBe(404);
  });
});

describe("a poll", () => {
  let own: string;
  let answers: (id: string, shown: { key?: string; token?: string }) => Promise<[number, unknown]>;
  beforeAll(async () => {
    own = await begun({ token: identity.token });
    answers = async (id, shown) => {
      const response = await call(pollPath(id), shown);
      expect(response.headers.get(ID_HEADER)).toBeNull();
      return [response.status, await response.json()];
    };
  });

  it("answers the same bytes for a request that is another's and one that never was", async () => {
    const [other, foreign]: [Identity, Account] = [await newIdentity(world.account, [vmId]), await newAccount()];
    const absent = newBackgroundId(platformRandomBytes);
    const before = world.host.calls.length;
    const expected = await answers(absent, { token: identity.token });
    expect(expected).toEqual([404, expect.objectContaining({ code: "NOT_FOUND" })]);
    for (const [id, shown] of [
      [own, { token: other.token }],
      [own, { key: world.account.key }],
      [own, { key: foreign.key }],
      ["ri-x", { token: identity.token }],
      [`${own}%2F..`, { token: identity.token }],
      [own.toUpperCase(), { token: identity.token }],
    ] as const) {
      expect(await answers(id, shown)).toEqual(expected);
    }
    expect(world.host.calls.length).toBe(before);
  });

  it("is refused without a live credential", async () => {
    expect((await call(pollPath(own))).status).toBe(401);
    expect((await call(pollPath(own), { token: `${identity.token}x` })).status).toBe(401);
  });

  it("finds nothing once the grant, the Linux user or the VM is gone, and again what it found once they are back", async () => {
    const someone = await newIdentity(world.account, [vmId]);
    const shown = { token: someone.token };
    const { key } = world.account;
    const id = await begun(shown, "developer");
    await must(grantPath(someone.id, vmId), { method: "PUT", key, body: { allowedUsers: ["root"] } });
    expect((await answers(id, shown))[0]).toBe(404);
    await must(grantPath(someone.id, vmId), { method: "PUT", key, body: { allowedUsers: ["developer"] } });
    expect((await call(pollPath(id), shown)).status).toBe(200);
    await must(grantPath(someone.id, vmId), { method: "DELETE", key });
    expect((await answers(id, shown))[0]).toBe(404);
  });

  it("finds nothing once the VM is deleted", async () => {
    const doomed = await newVm(world.account);
    world.host.answerNext(jobRuns);
    const { key } = world.account;
    const response = await call(execPath(doomed), { method: "POST", headers: now, body: { command: "sleep 1" }, key });
    const id = response.headers.get(ID_HEADER) ?? "";
    await must(`/v1/vms/${doomed}`, { method: "DELETE", key });
    expect((await answers(id, { key }))[0]).toBe(404);
  });

  it("finds nothing once the host has forgotten the result", async () => {
    world.host.answerNext(() => failed("background-request-not-found", "forgotten"));
    expect((await answers(own, { token: identity.token }))[0]).toBe(404);
  });

  it("is told to come again, without the header that would make it final, while host or object is away", async () => {
    world.host.isReachable = false;
    const response = await call(pollPath(own), { token: identity.token });
    world.host.isReachable = true;
    expect([response.status, response.headers.get(ID_HEADER)]).toEqual([503, null]);
  });

  it("finds nothing when the request's time is over, and nothing of it is left", async () => {
    const id = await begun({ key: world.account.key });
    const stub = bindings.BACKGROUND_REQUEST.getByName(id);
    await runInDurableObject(stub, async (object) => {
      object.clock = () => Date.now() + 365 * 86_400_000;
    });
    expect((await answers(id, { key: world.account.key }))[0]).toBe(404);
    await runInDurableObject(stub, async (object, state) => {
      await object.alarm();
      expect((await state.storage.list()).size).toBe(0);
      expect(await state.storage.getAlarm()).toBeNull();
    });
  });
});

describe("a new VM", () => {
  const BODY = { firewall: { rules: [{ action: "allow", source: {}, destination: { public: true } }] } };

  it.each(["v1", "v5"] as const)("goes on in the background in /%s, and the poll answers what create answers", async (dialect) => {
    const { key } = world.account;
    const path = dialect === "v1" ? "/v1/vms" : "/v5/vms";
    const response = await call(path, { method: "POST", key, headers: now, body: dialect === "v1" ? {} : BODY });
    expect(response.status).toBe(202);
    const id = response.headers.get(ID_HEADER) ?? "";
    const made = await polled(id, key, dialect);
    expect([made.status, made.headers.get(ID_HEADER)]).toEqual([200, id]);
    const body = await made.json<{ id: string }>();
    expect(body).toMatchObject(dialect === "v1" ? { domains: [expect.any(String)] } : { state: "running" });
    expect(await must(`/v1/vms/${body.id}`, { key })).toMatchObject({ id: body.id, state: "running" });
    expect((await call(pollPath(id, dialect), { key: (await newAccount()).key })).status).toBe(404);
  });

  it("that is made in time is answered at once", async () => {
    const headers = { "x-freestyle-background-after-secs": "20" };
    const response = await call("/v5/vms", { method: "POST", key: world.account.key, headers, body: BODY });
    expect([response.status, response.headers.get(ID_HEADER)]).toEqual([200, null]);
    expect(await response.json()).toMatchObject({ state: "running" });
  });

  it("that cannot be made is answered by the poll with the failure, in a code that 0.1.63 knows", async () => {
    const { key } = world.account;
    const body = { snapshotId: "a".repeat(20) };
    const response = await call("/v1/vms", { method: "POST", key, headers: now, body });
    const id = response.headers.get(ID_HEADER) ?? "";
    const refused = response.status === 202 ? await polled(id, key, "v1") : response;
    expect(refused.status).toBeGreaterThanOrEqual(400);
    expect(await refused.json()).toMatchObject({ code: expect.stringMatching(/^[A-Z_]+$/) });
  });

  it("whose body is wrong is refused at once", async () => {
    const body = { users: [{ name: "x" }, { name: "x" }] };
    const response = await call("/v1/vms", { method: "POST", key: world.account.key, headers: now, body });
    expect(response.status).toBe(400);
  });

  it("survives the death of the object that makes it", async () => {
    const id = newBackgroundId(platformRandomBytes);
    const stub = bindings.BACKGROUND_REQUEST.getByName(id);
    const { accountId, key } = world.account;
    const madeId = await newVm(world.account);
    const record = { kind: "create", subject: `account:${accountId}`, accountId, vmId: madeId, linuxUser: null } as const;
    await stub.begin({ ...record, expiresAt: Date.now() + 60_000 }, null);
    // As an attempt left it that died after the VM was made.
    await runInDurableObject(stub, async (object, state) => {
      const task = JSON.stringify({ kind: "create", spec: { snapshotId: null } });
      state.storage.sql.exec("UPDATE request SET task = ?, attempts = 1", task);
      await object.alarm();
    });
    expect(await (await call(pollPath(id), { key })).json()).toMatchObject({ id: madeId, state: "running" });
  });
});

it("GET /observability/v1/logs has nothing to tell, to anybody with a live credential", async () => {
  expect(await must("/observability/v1/logs?requestId=ri-x", { key: world.account.key })).toEqual({ logs: [] });
  expect((await call("/observability/v1/logs?requestId=ri-x")).status).toBe(401);
  expect((await call(`/observability/v1/logs?vmId=${vmId}`, { key: world.account.key })).status).toBe(400);
});
