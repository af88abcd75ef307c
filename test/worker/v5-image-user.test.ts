import { beforeAll, describe, expect, it, vi } from "vitest";
import { failed } from "./support/stub-host.ts";
import { call, grantPath, must, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

let world: World;
let vmId: string;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
});

const UPGRADE = { upgrade: "websocket" };
const lastUser = () => world.host.calls.at(-1)?.claims.user;
const ran = (headers: Record<string, string>) => Response.json({ stdout: "", stderr: "", statusCode: 0 }, { headers });

/** What 0.2 sends without a Linux user, as the guest's own. */
const unnamed = () =>
  [
    ["exec", { path: `/v5/vms/${vmId}/exec-await`, method: "POST", body: { command: "id" } }],
    ["a list of terminals", { path: `/v5/vms/${vmId}/pty/sessions` }],
    ["closing a terminal", { path: `/v5/vms/${vmId}/pty/sessions/1`, method: "DELETE" }],
    ["opening a terminal", { path: `/v5/vms/${vmId}/pty`, headers: UPGRADE }],
    ["attaching to a terminal", { path: `/v5/vms/${vmId}/pty/sessions/1`, headers: UPGRADE }],
  ] as const;

describe("without a Linux user", () => {
  it("an unrestricted token and an API key leave it to the guest", async () => {
    const { token } = await newIdentity(world.account, [vmId]);
    for (const shown of [{ token }, { key: world.account.key }]) {
      for (const [what, { path, ...options }] of unnamed()) {
        await call(path, { ...options, ...shown });
        expect([what, lastUser()]).toEqual([what, "*"]);
      }
    }
  });

  it.each([["root"], ["alice"], []])(
    "a token that is restricted to [%s] must name one, and is told whom",
    async (...allowedUsers) => {
      const { token } = await newIdentity(world.account, [vmId], allowedUsers);
      const before = world.host.calls.length;
      for (const [what, { path, ...options }] of unnamed()) {
        const response = await call(path, { ...options, token });
        const body = await response.json<{ code: string; message: string }>();
        expect([what, response.status]).toEqual([what, 403]);
        expect(body).toMatchObject({ code: "FORBIDDEN", allowedUsers });
        expect(body.message).toContain(`one must be named. Allowed users: ${allowedUsers.join(", ") || "none"}`);
      }
      const minting = { method: "POST", token, body: {} };
      expect((await call(`/v5/vms/${vmId}/terminal-ticket`, minting)).status).toBe(403);
      expect(world.host.calls.length).toBe(before);
    },
  );

  it("files, SSH tickets and everything of 0.1 stay root's", async () => {
    const { key } = world.account;
    await call(`/v5/vms/${vmId}/fs/exists?path=/etc`, { key });
    expect(lastUser()).toBe("root");
    await call(`/v1/vms/${vmId}/exec-await`, { method: "POST", key, body: { command: "id" } });
    expect(lastUser()).toBe("root");
    await call(`/v1/vms/${vmId}/pty/sessions`, { key });
    expect(lastUser()).toBe("root");
    const { user } = await must<{ user: string }>(`/v5/vms/${vmId}/ssh-ticket`, { method: "POST", key, body: {} });
    expect(user).toBe(`${vmId}+root`);
  });
});

it.each(["*", "%2A"])("%j is not a name that a caller can give", async (named) => {
  const { token } = await newIdentity(world.account, [vmId]);
  const before = world.host.calls.length;
  const asked = { method: "POST", token };
  const linuxUser = decodeURIComponent(named);
  expect((await call(`/v5/vms/${vmId}/exec-await`, { ...asked, body: { command: "id", linuxUser } })).status).toBe(400);
  expect((await call(`/v1/vms/${vmId}/exec-await`, { ...asked, linuxUser, body: { command: "id" } })).status).toBe(400);
  expect((await call(`/v5/vms/${vmId}/pty/sessions?linuxUser=${named}`, { token })).status).toBe(400);
  expect(world.host.calls.length).toBe(before);
});

it("the audit trail has whom the host says that the guest meant", async () => {
  const { id, token } = await newIdentity(world.account, [vmId]);
  world.host.answerNext(() => ran({ "postern-acted-as": "ubuntu" }));
  await call(`/v5/vms/${vmId}/exec-await`, { method: "POST", token, body: { command: "id" } });
  const event = await vi.waitUntil(async () => {
    const path = `/v5/audit-events?identityId=${id}`;
    const { events } = await must<{ events: { linuxUser: string; operation: string }[] }>(path, { key: world.account.key });
    return events.find(({ operation }) => operation.endsWith("/exec-await"));
  });
  expect(event.linuxUser).toBe("ubuntu");
});

it("a background request without a Linux user is lost to a token that was restricted meanwhile", async () => {
  const { id, token } = await newIdentity(world.account, [vmId]);
  world.host.answerNext(() => Response.json({}, { headers: { "postern-job-state": "running" } }));
  const background = { "x-freestyle-background-after-secs": "0" };
  const begun = await call(`/v5/vms/${vmId}/exec-await`, { method: "POST", token, headers: background, body: { command: "id" } });
  expect(begun.status).toBe(202);
  const { requestId } = await begun.json<{ requestId: string }>();
  const poll = () => call(`/v5/background-requests/${requestId}`, { token });
  expect((await poll()).status).toBe(200);
  await must(grantPath(id, vmId), { method: "PUT", key: world.account.key, body: { allowedUsers: ["root"] } });
  expect((await poll()).status).toBe(404);
});

it("a host's refusal of the guest's own user reaches the caller", async () => {
  world.host.answerNext(() => failed("linux-user-forbidden", "no login shell", { linuxUser: "svc" }));
  const response = await call(`/v5/vms/${vmId}/exec-await`, {
    method: "POST",
    key: world.account.key,
    body: { command: "id" },
  });
  expect([response.status, await response.json()]).toMatchObject([403, { code: "FORBIDDEN", linuxUser: "svc" }]);
});
