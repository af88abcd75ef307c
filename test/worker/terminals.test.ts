import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { failed } from "./support/stub-host.ts";
import { call, type Identity, must, newAccount, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

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

const UPGRADE = { upgrade: "websocket" };
const socketPaths = () => [
  `/v1/vms/${vmId}/pty?cols=80&rows=24`,
  `/v1/vms/${vmId}/pty/sessions/pty-1?cols=80&rows=24`,
  `/v5/vms/${vmId}/pty`,
  `/v5/vms/${vmId}/pty/sessions/1`,
];

/** Has the host take the next WebSocket and greet through it. */
function takeNextSocket(): void {
  world.host.answerNext(() => {
    const { 0: ours, 1: theirs } = new WebSocketPair();
    theirs.accept();
    theirs.send("hello");
    return new Response(null, { status: 101, webSocket: ours });
  });
}

const mint = async (dialect: "v1" | "v5", linuxUser?: string): Promise<string> => {
  const { ticket, expiresAt } = await must<{ ticket: string; expiresAt: string }>(`/${dialect}/vms/${vmId}/terminal-ticket`, {
    method: "POST",
    token: identity.token,
    ...(linuxUser === undefined ? {} : dialect === "v1" ? { linuxUser } : { body: { linuxUser } }),
  });
  expect(Date.parse(expiresAt) - Date.now()).toBeLessThanOrEqual(30_000);
  return ticket;
};

describe("a WebSocket", () => {
  it("is joined to the host's, with a ticket for a terminal as the Linux user and no credential", async () => {
    takeNextSocket();
    const response = await call(`/v1/vms/${vmId}/pty?cols=93&rows=31&exec=top&sessionId=mine`, {
      token: identity.token,
      linuxUser: "alice",
      headers: UPGRADE,
    });
    expect(response.status).toBe(101);
    const served = world.host.calls.at(-1);
    expect(served).toMatchObject({ method: "GET", path: `/vms/${vmId}/terminals/open` });
    expect(Object.fromEntries(new URLSearchParams(served?.search))).toEqual({
      dialect: "v1",
      cols: "93",
      rows: "31",
      exec: "top",
      name: "mine",
    });
    expect(served?.claims).toMatchObject({ op: "terminal", user: "alice", vm: vmId, azp: "edge", cred: identity.tokenId });
    expect(served?.headers.get("x-freestyle-identity-access-token")).toBeNull();
    const client = response.webSocket;
    client?.accept();
    const heard = new Promise((resolve) => client?.addEventListener("message", ({ data }) => resolve(data)));
    expect(await heard).toBe("hello");
  });

  it("of 0.2 passes its own members on", async () => {
    takeNextSocket();
    const query = "linuxUser=alice&slug=main&replaceOnExit=true&cols=9";
    expect((await call(`/v5/vms/${vmId}/pty?${query}`, { token: identity.token, headers: UPGRADE })).status).toBe(101);
    const served = world.host.calls.at(-1);
    expect(Object.fromEntries(new URLSearchParams(served?.search))).toEqual({
      dialect: "v5",
      slug: "main",
      replaceOnExit: "true",
      cols: "9",
    });
    expect(served?.claims.user).toBe("alice");
  });

  it("attaches by what the dialect calls a session, encoded", async () => {
    takeNextSocket();
    await call(`/v5/vms/${vmId}/pty/sessions/my-slug`, { token: identity.token, headers: UPGRADE });
    expect(world.host.calls.at(-1)?.path).toBe(`/vms/${vmId}/terminals/my-slug/attach`);
    takeNextSocket();
    await call(`/v1/vms/${vmId}/pty/sessions/a%2F..%2Fb`, { token: identity.token, headers: UPGRADE });
    expect(world.host.calls.at(-1)?.path).toBe(`/vms/${vmId}/terminals/a%2F..%2Fb/attach`);
  });

  it("gets one more try when the host says that the verdict is stale", async () => {
    world.host.answerNext(() => failed("stale-epoch", "old"));
    takeNextSocket();
    expect((await call(socketPaths()[0] ?? "", { token: identity.token, headers: UPGRADE })).status).toBe(101);
  });
});

describe("every WebSocket path refuses", () => {
  const expectAll = async (options: Parameters<typeof call>[1], v1: [number, string], v5: [number, string]) => {
    const before = world.host.calls.length;
    for (const path of socketPaths()) {
      const response = await call(path, options);
      const [status, code] = path.startsWith("/v1") ? v1 : v5;
      expect([path, response.status, (await response.json<{ code: string }>()).code]).toEqual([path, status, code]);
      expect(response.webSocket).toBeNull();
    }
    expect(world.host.calls.length).toBe(before);
  };

  it("nobody", () => expectAll({ headers: UPGRADE }, [401, "UNAUTHORIZED_ERROR"], [401, "MISSING_CREDENTIALS"]));

  it("a revoked token", async () => {
    const path = `/identity/v1/identities/${identity.id}/tokens/${identity.tokenId}`;
    await must(path, { method: "DELETE", key: world.account.key });
    await expectAll({ token: identity.token, headers: UPGRADE }, [401, "UNAUTHORIZED_ERROR"], [401, "INVALID_API_KEY"]);
  });

  it("a token without a grant, and another account's key", async () => {
    const { token } = await newIdentity(world.account);
    await expectAll({ token, headers: UPGRADE }, [404, "VM_NOT_FOUND"], [404, "NOT_FOUND"]);
    const { key } = await newAccount();
    await expectAll({ key, headers: UPGRADE }, [404, "VM_NOT_FOUND"], [404, "NOT_FOUND"]);
  });

  it("a Linux user that the grant does not list, root included", async () => {
    const { token } = await newIdentity(world.account, [vmId], ["alice"]);
    await expectAll({ token, headers: UPGRADE }, [403, "VM_ACCESS_DENIED"], [403, "FORBIDDEN"]);
  });

  it("a request that asks for no upgrade", () => expectAll({ token: identity.token }, [400, "BAD_REQUEST"], [400, "BAD_REQUEST"]));
});

it.each(["cols=0", "rows=65536", "cols=many"])("%s is a bad request that names the member", async (query) => {
  for (const dialect of ["v1", "v5"]) {
    const response = await call(`/${dialect}/vms/${vmId}/pty?${query}`, { token: identity.token, headers: UPGRADE });
    expect(response.status).toBe(400);
    expect((await response.json<{ message: string }>()).message).toContain(query.slice(0, 4));
  }
});

it.each([
  ["session-id-invalid", 400, "INVALID_SESSION_ID", 400, "BAD_REQUEST"],
  ["session-user-mismatch", 403, "SESSION_USER_MISMATCH", 404, "NOT_FOUND"],
  ["session-not-found", 404, "SESSION_NOT_FOUND", 404, "NOT_FOUND"],
  ["session-exists", 409, "SESSION_ALREADY_EXISTS", 409, "CONFLICT"],
  ["session-expired", 410, "SESSION_EXPIRED", 404, "NOT_FOUND"],
  ["session-cap-reached", 429, "SESSION_CAP_REACHED", 429, "LIMIT_EXCEEDED"],
] as const)("a host's %s answers the upgrade and the close in the dialect's words", async (kind, v1Status, v1, v5Status, v5) => {
  for (const [dialect, status, code] of [
    ["v1", v1Status, v1],
    ["v5", v5Status, v5],
  ]) {
    world.host.answerNext(() => failed(kind, "why"));
    const opened = await call(`/${dialect}/vms/${vmId}/pty`, { token: identity.token, headers: UPGRADE });
    expect([opened.status, (await opened.json<{ code: string }>()).code]).toEqual([status, code]);
    world.host.answerNext(() => failed(kind, "why"));
    const closed = await call(`/${dialect}/vms/${vmId}/pty/sessions/1`, { method: "DELETE", token: identity.token });
    expect([closed.status, (await closed.json<{ code: string }>()).code]).toEqual([status, code]);
  }
});

it("a host that opens no WebSocket is unavailable", async () => {
  world.host.answerNext(() => new Response("not a socket"));
  const response = await call(`/v1/vms/${vmId}/pty`, { token: identity.token, headers: UPGRADE });
  expect([response.status, (await response.json<{ code: string }>()).code]).toEqual([503, "UNAVAILABLE"]);
});

const row = {
  number: 3,
  name: "pty-3",
  slug: "main",
  linuxUser: "alice",
  running: false,
  exitCode: 7,
  exitedAt: 2_000,
  cols: 80,
  rows: 24,
  exec: "top",
  createdAt: 1_999,
  attached: 2,
  suspended: false,
};

it("sessions are listed in the words of each SDK", async () => {
  const list = async (path: string, linuxUser?: string) => {
    world.host.answerNext(() => Response.json({ sessions: [row, { ...row, running: true, exitCode: null, exitedAt: null }] }));
    return must<{ sessions: unknown[] }>(path, { token: identity.token, ...(linuxUser === undefined ? {} : { linuxUser }) });
  };
  const v1 = { sessionId: "pty-3", cols: 80, rows: 24, exec: "top", createdAtMs: 1_999, attachedCount: 2, user: "alice" };
  expect(await list(`/v1/vms/${vmId}/pty/sessions`, "alice")).toEqual({
    sessions: [
      { ...v1, running: false, exitCode: 7, exitedAtMs: 2_000, suspended: false },
      { ...v1, running: true, suspended: false },
    ],
  });
  const v5 = { sessionId: 3, createdUnix: 1, cols: 80, rows: 24, linuxUser: "alice", slug: "main", suspended: false };
  expect(await list(`/v5/vms/${vmId}/pty/sessions?linuxUser=alice`)).toEqual({
    sessions: [
      { ...v5, state: "exited", exitCode: 7 },
      { ...v5, state: "running" },
    ],
  });
  expect(world.host.calls.slice(-2).map(({ claims }) => claims.user)).toEqual(["alice", "alice"]);
});

it("a session is closed in the words of each SDK", async () => {
  const close = async (path: string, exitCode: number | null) => {
    world.host.answerNext(() => Response.json({ number: 3, name: "pty-3", exitCode }));
    return must(path, { method: "DELETE", token: identity.token });
  };
  expect(await close(`/v1/vms/${vmId}/pty/sessions/pty-3`, 7)).toEqual({ sessionId: "pty-3", exitCode: 7 });
  expect(await close(`/v5/vms/${vmId}/pty/sessions/main`, null)).toEqual({ sessionId: 3 });
  expect(world.host.calls.at(-1)).toMatchObject({ path: `/vms/${vmId}/terminals/main`, search: "?dialect=v5" });
});

describe("a client's ticket", () => {
  it.each(["v1", "v5"] as const)(
    "of %s opens one WebSocket without any credential, as the user it was minted for",
    async (dialect) => {
      const ticket = await mint(dialect, "alice");
      takeNextSocket();
      const response = await call(`/v5/vms/${vmId}/pty?ticket=${ticket}`, { headers: UPGRADE });
      expect(response.status).toBe(101);
      const served = world.host.calls.at(-1);
      expect(served?.claims).toMatchObject({ azp: "client", op: "terminal", user: "alice", sub: `identity:${identity.id}` });
      expect(served?.claims.aud).toEqual([`host:${world.host.id}`]);
      expect(served?.headers.get("authorization")).toBe(`Bearer ${ticket}`);
      expect(served?.search).not.toContain(ticket);
    },
  );

  it.each([
    [
      "alone, and is answered with it",
      (ticket: string) => `postern-ticket.${ticket}`,
      (ticket: string) => `postern-ticket.${ticket}`,
    ],
    ["beside another, which is answered", (ticket: string) => `postern-ticket.${ticket}, terminal`, () => "terminal"],
  ])("may come as a subprotocol %s", async (_how, offer, answer) => {
    const ticket = await mint("v5");
    takeNextSocket();
    const headers = { ...UPGRADE, "sec-websocket-protocol": offer(ticket) };
    const response = await call(`/v1/vms/${vmId}/pty`, { headers });
    expect([response.status, response.headers.get("sec-websocket-protocol")]).toEqual([101, answer(ticket)]);
    expect(world.host.calls.at(-1)?.headers.get("sec-websocket-protocol")).toBeNull();
  });

  it("that the host has seen before is refused", async () => {
    const ticket = await mint("v1");
    world.host.answerNext(() => failed("ticket-refused", "replayed"));
    const response = await call(`/v1/vms/${vmId}/pty?ticket=${ticket}`, { headers: UPGRADE });
    expect([response.status, (await response.json<{ code: string }>()).code]).toEqual([401, "UNAUTHORIZED_ERROR"]);
  });

  it("of a revoked token is refused when the host knows, with no second try", async () => {
    const ticket = await mint("v1");
    const before = world.host.calls.length;
    world.host.answerNext(() => failed("stale-epoch", "old"));
    expect((await call(`/v1/vms/${vmId}/pty?ticket=${ticket}`, { headers: UPGRADE })).status).toBe(401);
    expect(world.host.calls.length).toBe(before + 1);
  });

  it("reaches no host when it is malformed, forged, for another VM, user or operation", async () => {
    const other = await newVm(world.account);
    const ticket = await mint("v5", "alice");
    const ssh = await must<{ ticket: string }>(`/v5/vms/${vmId}/ssh-ticket`, { method: "POST", token: identity.token });
    const [head, , signature] = ticket.split(".");
    const claims = btoa(JSON.stringify({ vm: vmId, op: "terminal", host_url: "http://169.254.169.254" }));
    const before = world.host.calls.length;
    for (const [path, shown] of [
      [vmId, ""],
      [vmId, "nonsense"],
      [vmId, "a.b.c"],
      [vmId, `${head}.${claims}.${signature}`],
      [vmId, ticket.slice(0, -4)],
      [vmId, ssh.ticket],
      [other, ticket],
    ] as const) {
      for (const dialect of ["v1", "v5"]) {
        const response = await call(`/${dialect}/vms/${path}/pty?ticket=${shown}`, { headers: UPGRADE });
        expect([shown, response.status]).toEqual([shown, 401]);
      }
    }
    const asBob = await call(`/v5/vms/${vmId}/pty?linuxUser=bob&ticket=${ticket}`, { headers: UPGRADE });
    expect(asBob.status).toBe(401);
    expect(world.host.calls.length).toBe(before);
  });

  it("opens nothing but a terminal", async () => {
    const ticket = await mint("v1");
    for (const path of [`/v1/vms/${vmId}/pty/sessions`, `/v1/vms/${vmId}`, `/v5/vms/${vmId}/pty/sessions`]) {
      expect((await call(`${path}?ticket=${ticket}`)).status).toBe(401);
    }
    const exec = await call(`/v1/vms/${vmId}/exec-await?ticket=${ticket}`, { method: "POST", body: { command: "id" } });
    expect(exec.status).toBe(401);
  });

  it("is minted for nobody who may not open the terminal", async () => {
    const limited = await newIdentity(world.account, [vmId], ["alice"]);
    for (const dialect of ["v1", "v5"]) {
      const path = `/${dialect}/vms/${vmId}/terminal-ticket`;
      expect((await call(path, { method: "POST" })).status).toBe(401);
      expect((await call(path, { method: "POST", token: limited.token })).status).toBe(403);
      expect((await call(path, { method: "POST", token: (await newIdentity(world.account)).token })).status).toBe(404);
    }
  });
});
