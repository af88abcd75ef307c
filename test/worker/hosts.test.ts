import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { FILE_KIND_HEADER } from "../../protocol/headers.ts";
import { bindings } from "../durable-objects/objects.ts";
import { served } from "./support/served.ts";
import { failed } from "./support/stub-host.ts";
import { call, type Identity, must, newIdentity, newVm, ORIGIN, openWorld, type World } from "./support/world.ts";

let world: World;
let vmId: string;
let identity: Identity;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
});
beforeEach(async () => {
  identity = await newIdentity(world.account, [vmId]);
  world.host.isReachable = true;
});

const exec = (body: object = {}) =>
  call(`/v1/vms/${vmId}/exec-await`, {
    method: "POST",
    token: identity.token,
    body: { command: "id", terminal: null, timeoutMs: null, ...body },
  });

it("a host gets a ticket for this VM, user and operation, the trace id, and no credential", async () => {
  const response = await exec({ command: "echo hi", timeoutMs: 5000 });
  expect(await response.json()).toEqual({ stdout: "ran\n", stderr: "", statusCode: 0 });
  const served = world.host.calls.at(-1);
  expect(served?.claims).toMatchObject({
    aud: [`host:${world.host.id}`],
    sub: `identity:${identity.id}`,
    vm: vmId,
    user: "root",
    op: "exec",
    azp: "edge",
    cred: identity.tokenId,
  });
  expect(served?.headers.get("x-freestyle-trace-id")).toBe(response.headers.get("x-freestyle-trace-id"));
  expect(served?.headers.get("x-freestyle-identity-access-token")).toBeNull();
  expect(JSON.parse(new TextDecoder().decode(served?.body))).toEqual({ command: "echo hi", timeoutMs: 5000, env: {} });
});

it("an API key's ticket speaks for its account", async () => {
  await must(`/v1/vms/${vmId}/exec-await`, { method: "POST", key: world.account.key, body: { command: "id" } });
  expect(world.host.calls.at(-1)?.claims.sub).toBe(`account:${world.account.accountId}`);
});

describe("trouble with a host is 503 with a known code, never 401", () => {
  const unavailable = async (response: Response) => {
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toMatch(/^\d+$/);
    expect(await response.json()).toMatchObject({ code: "UNAVAILABLE" });
  };

  it("when it cannot be reached", async () => {
    world.host.isReachable = false;
    await unavailable(await exec());
    await unavailable(await call(`/v1/vms/${vmId}/files/%2F`, { token: identity.token }));
  });

  it.each([
    ["HTML", () => new Response("<html>bad gateway</html>", { status: 502 })],
    ["nothing", () => new Response(null, { status: 500 })],
    ["a failure of no known kind", () => Response.json({ kind: "new", message: "x" }, { status: 400 })],
    ["a redirect", () => Response.redirect("http://169.254.169.254/", 302)],
    ["a refusal of the edge's ticket", () => failed("ticket-refused", "signature")],
  ])("when it answers %s", async (_what, answer) => {
    world.host.answerNext(answer);
    await unavailable(await exec());
  });

  it("when it does not begin its answer in time, and the command is not sent again", async () => {
    const before = world.host.calls.length;
    world.host.answerNext(() => new Promise(() => undefined));
    const init = {
      method: "POST",
      headers: { "x-freestyle-identity-access-token": identity.token },
      body: JSON.stringify({ command: "id" }),
    };
    const hasty = { ...bindings, EXEC_MAX_TIMEOUT_MS: "50", HOST_TIMEOUT_MS: "100" };
    await unavailable(await served(`${ORIGIN}/v1/vms/${vmId}/exec-await`, init, hasty));
    expect(world.host.calls.length).toBe(before + 1);
  });

  it("when a directory listing cannot be read", async () => {
    world.host.answerNext(() => Response.json({ entries: 1 }, { headers: { [FILE_KIND_HEADER]: "directory" } }));
    await unavailable(await call(`/v1/vms/${vmId}/files/%2F`, { token: identity.token }));
  });
});

describe.each(["stale-epoch", "stale-authority"] as const)("a host that answers %s", (kind) => {
  it("gets one more try with a new ticket", async () => {
    const before = world.host.calls.length;
    world.host.answerNext(() => failed(kind, "old"));
    expect((await exec()).status).toBe(200);
    const [first, second, ...more] = world.host.calls.slice(before);
    expect(more).toEqual([]);
    expect(second?.claims.jti).not.toBe(first?.claims.jti);
    expect(second?.body).toEqual(first?.body);
  });

  it("twice is a host out of date: 503, and no third try", async () => {
    const before = world.host.calls.length;
    world.host.answerNext(() => failed(kind, "old"));
    world.host.answerNext(() => failed(kind, "old"));
    const response = await exec();
    expect(response.status).toBe(503);
    expect(world.host.calls.length).toBe(before + 2);
  });

  it("about a token that was revoked meanwhile makes the edge refuse the caller", async () => {
    const before = world.host.calls.length;
    world.host.answerNext(async () => {
      const path = `/identity/v1/identities/${identity.id}/tokens/${identity.tokenId}`;
      await must(path, { method: "DELETE", key: world.account.key });
      return failed(kind, "old");
    });
    expect((await exec()).status).toBe(401);
    expect(world.host.calls.length).toBe(before + 1);
  });
});

it.each([
  ["exec-timed-out", 408, "EXEC_TIMED_OUT", { timeoutMs: 5, stdout: "so far", stderr: "" }],
  ["exec-output-too-large", 413, "INVALID_REQUEST", { maxBytes: 10 }],
  ["linux-user-not-found", 404, "USER_NOT_FOUND", {}],
  ["vm-start-failed", 500, "VM_EXIT_DURING_START", {}],
  ["vm-busy", 409, "CONFLICT", {}],
] as const)("a host's %s reaches the caller in the dialect's words with its details", async (kind, status, code, details) => {
  world.host.answerNext(() => failed(kind, "what the host says", details));
  const response = await exec();
  expect(response.status).toBe(status);
  expect(await response.json()).toEqual({
    ...details,
    code,
    error: code,
    message: "what the host says",
    description: "what the host says",
  });
});

it.each([
  [{ timeoutMs: 300_001 }, "timeoutMs"],
  [{ timeoutMs: 0 }, "timeoutMs"],
  [{ command: 7 }, "command"],
  [{ terminal: "main" }, "terminal"],
])("exec with %j is a bad request that names the member", async (body, member) => {
  const before = world.host.calls.length;
  const response = await exec(body);
  expect(response.status).toBe(400);
  expect((await response.json<{ message: string }>()).message).toContain(member);
  expect(world.host.calls.length).toBe(before);
});
