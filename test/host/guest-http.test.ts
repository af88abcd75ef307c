import { once } from "node:events";
import { request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { failure } from "../../protocol/failures.ts";
import type { TicketClaims } from "../../protocol/ticket.ts";
import { GuestServer } from "./support/guest-server.ts";
import { startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

const PORT = 3000;
/** Whose floors rise here, apart from those who go on. */
const VISITOR = `identity:${"b".repeat(16)}` as const;
const OWNER = `account:${"c".repeat(16)}` as const;

let host: TestHost;
let vm: string;
let guest: GuestServer;
/** What a request below `/own` is given to. */
let own: (request: IncomingMessage, response: ServerResponse) => void;

beforeAll(async () => {
  host = await startTestHost({
    POSTERN_GUEST_PORT_BOOT_MS: "3000",
    POSTERN_GUEST_ANSWER_MS: "700",
    POSTERN_VM_VISITS: "3",
    POSTERN_IDLE_SWEEP_MS: "50",
  });
}, 60_000);
afterAll(() => host.close());

beforeEach(async () => {
  vm = await host.createVm();
  guest = await GuestServer.start(host.driver.addressOf(vm), PORT, (request, response) => own(request, response));
});
afterEach(() => guest.stop());

const visit = (path: string, init: RequestInit = {}, claims: Partial<TicketClaims> = {}) =>
  host.request(init.method ?? "GET", `/vms/${vm}/http/${PORT}${path}`, { vm, op: "http", ...claims }, init);

async function socketTo(path: string, claims: Partial<TicketClaims> = {}): Promise<WebSocket> {
  const ticket = await host.edge.ticket(host.agent.id, { vm, op: "http", ...claims });
  const url = `${host.agent.url.replace("http", "ws")}/vms/${vm}/http/${PORT}${path}`;
  return new WebSocket(url, ["chat"], { headers: { authorization: `Bearer ${ticket}`, "x-forwarded-host": "name.test" } });
}

const state = async () => ((await (await host.request("GET", `/vms/${vm}`, { vm, op: "read" })).json()) as { state: string }).state;
const sleep = (op: "stop" | "suspend") => host.request("POST", `/vms/${vm}/${op}`, { vm, op });

describe("a request to a guest's port", () => {
  test("arrives as the visitor sent it, with the name that was asked for and without the ticket", async () => {
    const answer = await visit("/a%2Fb/..c//d?q=%20&r", {
      method: "POST",
      body: "the body",
      headers: {
        "x-forwarded-host": "name.test:8787",
        "postern-guest-authorization": "Basic Zm9v",
        "postern-other": "1",
        "x-freestyle-trace-id": "trace-1",
        cookie: "c=1",
      },
    });
    expect(await answer.text()).toBe("heard the body");
    const { method, url, headers, body } = guest.last;
    expect({ method, url, body }).toEqual({ method: "POST", url: "/a%2Fb/..c//d?q=%20&r", body: "the body" });
    expect(headers).toMatchObject({ host: "name.test:8787", authorization: "Basic Zm9v", cookie: "c=1" });
    expect(headers["x-freestyle-trace-id"]).toBe("trace-1");
    expect(Object.keys(headers).filter((name) => name.startsWith("postern-"))).toEqual([]);
    expect(JSON.stringify(headers)).not.toContain("Bearer");
  });

  test("is answered as the guest answers, marked as its word, without what is about the hop", async () => {
    const answer = await visit("/");
    expect([answer.status, answer.statusText]).toEqual([201, "Made"]);
    expect(answer.headers.getSetCookie()).toEqual(["a=1", "b=2"]);
    expect(answer.headers.get("x-guest")).toBe("yes");
    expect(answer.headers.get("postern-guest-answer")).toBe("1");
    expect(answer.headers.get("postern-trick")).toBeNull();
    expect(answer.headers.get("keep-alive")).not.toBe("timeout=9");
  });

  test("streams both ways: the first piece of the answer comes before the last piece of the body is sent", async () => {
    own = (request, response) => {
      response.writeHead(200);
      request.on("data", (chunk) => response.write(`got ${chunk}`));
      request.on("end", () => response.end("."));
    };
    const ticket = await host.edge.ticket(host.agent.id, { vm, op: "http" });
    const asked = httpRequest(`${host.agent.url}/vms/${vm}/http/${PORT}/own`, {
      method: "POST",
      headers: { authorization: `Bearer ${ticket}` },
    });
    asked.write("one");
    const [answer] = (await once(asked, "response")) as [IncomingMessage];
    const pieces: string[] = [];
    answer.on("data", (chunk) => pieces.push(String(chunk)));
    await until(() => pieces.join("") === "got one", "the first piece is back");
    asked.end("two");
    await once(answer, "end");
    expect(pieces.join("")).toBe("got onegot two.");
  });

  test("goes over a connection that is kept when it may be asked twice, and over one of its own when not", async () => {
    for (let count = 0; count < 5; count += 1) await (await visit("/")).text();
    expect(await guest.connections()).toBe(1);
    await (await visit("/", { method: "POST", body: "x" })).text();
    await until(async () => (await guest.connections()) === 1, "the other connection is closed");
  });

  test("is asked again when the guest's server was restarted behind a connection that was kept", async () => {
    await (await visit("/")).text();
    await guest.stop();
    guest = await GuestServer.start(host.driver.addressOf(vm), PORT);
    expect((await visit("/")).status).toBe(201);
  });

  test("breaks off where the guest breaks off, rather than end as if it were whole", async () => {
    own = (_request, response) => {
      response.writeHead(200, { "content-length": "100" });
      response.write("half", () => response.destroy());
    };
    const answer = await visit("/own");
    expect(answer.status).toBe(200);
    await expect(answer.text()).rejects.toThrow();
  });
});

describe("is refused, and wakes nothing:", () => {
  const refusals: [string, Partial<TicketClaims>, number][] = [
    ["a ticket for another operation", { op: "exec", user: "root" }, 401],
    ["a ticket for another VM", { vm: "b".repeat(20) }, 401],
    ["a ticket with a Linux user", { user: "root" }, 401],
    ["a ticket for another host", { aud: ["host:other"] }, 401],
  ];
  test.each(refusals)("%s", async (_what, claims, status) => {
    await sleep("suspend");
    const answer = await visit("/", {}, claims);
    expect(answer.status).toBe(status);
    expect(answer.headers.get("postern-guest-answer")).toBeNull();
    const socket = await socketTo("/", claims);
    const [, refused] = (await once(socket, "unexpected-response")) as [unknown, IncomingMessage];
    expect(refused.statusCode).toBe(status);
    expect(await state()).toBe("suspended");
    expect(guest.requests).toEqual([]);
  });
});

describe("a guest that does not answer", () => {
  test("because nothing listens is 502, and the message says what to do", async () => {
    const answer = await host.request("GET", `/vms/${vm}/http/3999/`, { vm, op: "http" });
    expect(answer.status).toBe(502);
    const body = (await answer.json()) as { kind: string; message: string };
    expect(body.kind).toBe("guest-unreachable");
    expect(body.message).toContain("0.0.0.0");
  });

  test("because it takes too long is 504", async () => {
    own = () => undefined;
    const answer = await visit("/own");
    expect([answer.status, ((await answer.json()) as { kind: string }).kind]).toEqual([504, "guest-timed-out"]);
  });

  test("because it breaks off is 502", async () => {
    own = (request) => request.socket.destroy();
    expect((await visit("/own", { method: "POST", body: "x" })).status).toBe(502);
  });

  test.each([
    ["is no HTTP", "SSH-2.0-OpenSSH_9.2\r\n"],
    ["has a status beyond those of HTTP", "HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n"],
    ["switches protocols unasked", "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\nraw"],
    ["has a head without end", `HTTP/1.1 200 OK\r\nx: ${"a".repeat(100_000)}\r\n\r\n`],
  ])("because what it says %s is 502, and the message says whose fault it is", async (_how, said) => {
    own = (request) => request.socket.end(said);
    const answer = await visit("/own", { method: "POST", body: "x" });
    expect(answer.status).toBe(502);
    expect(((await answer.json()) as { message: string }).message).toContain("does not answer as HTTP does");
  });

  test("leaves room for the next: more than the limit at once are refused, and later ones come in again", async () => {
    own = () => undefined;
    const many = await Promise.all(Array.from({ length: 5 }, () => visit("/own").then(({ status }) => status)));
    expect(many.sort()).toEqual([409, 409, 504, 504, 504]);
    expect((await visit("/")).status).toBe(201);
  });
});

describe("a sleeping VM", () => {
  test.each(["stop", "suspend"] as const)("put to rest by %s is woken once by many requests, and all are answered", async (op) => {
    await sleep(op);
    const starts = host.driver.calls.start;
    const all = await Promise.all([visit("/"), visit("/", { method: "POST", body: "x" }), visit("/")]);
    expect(all.map(({ status }) => status)).toEqual([201, 201, 201]);
    expect(host.driver.calls.start).toBe(starts + 1);
  });

  test("whose server starts late is waited for", async () => {
    await guest.stop();
    await sleep("stop");
    const answer = visit("/");
    await until(async () => (await state()) === "running", "the VM runs");
    guest = await GuestServer.start(host.driver.addressOf(vm), PORT);
    expect((await answer).status).toBe(201);
  });

  test("that cannot be woken is one clear failure, and the next request starts clean", async () => {
    await sleep("stop");
    host.driver.failing.add("start");
    const failed = await visit("/");
    expect([failed.status, ((await failed.json()) as { kind: string }).kind]).toEqual([500, "vm-start-failed"]);
    host.driver.failing.delete("start");
    expect((await visit("/")).status).toBe(201);
  });
});

describe("a WebSocket", () => {
  test("is the guest's own: its subprotocol, its frames, and no ticket in its handshake", async () => {
    const socket = await socketTo("/chat?room=1");
    await once(socket, "open");
    expect(socket.protocol).toBe("chat");
    socket.send("hello");
    expect(String((await once(socket, "message"))[0])).toBe("hello");
    expect(guest.last.url).toBe("/chat?room=1");
    expect(guest.last.headers.host).toBe("name.test");
    expect(guest.last.headers.authorization).toBeUndefined();
    socket.close();
    await once(socket, "close");
  });

  test("that the guest refuses is the guest's plain answer", async () => {
    const socket = await socketTo("/no-socket");
    const [, refused] = (await once(socket, "unexpected-response")) as [unknown, IncomingMessage];
    expect([refused.statusCode, refused.headers["postern-guest-answer"], refused.headers.connection]).toEqual([418, "1", "close"]);
    let body = "";
    for await (const chunk of refused) body += String(chunk);
    expect(body).toBe("no tea");
  });

  test("ends when the VM is put to sleep, and when the visitor's access is taken back", async () => {
    const first = await socketTo("/");
    await once(first, "open");
    await Promise.all([once(first, "close"), sleep("suspend")]);
    const second = await socketTo("/", { sub: VISITOR });
    await once(second, "open");
    host.edge.onSessionCheck = () => failure("credential-invalid", "gone");
    host.edge.send({ type: "floor", floor: { sub: VISITOR, epoch: 2, at: Date.now() } });
    await once(second, "close");
    expect(host.edge.checked.at(-1)).toMatchObject({ vmId: vm, operation: "http", credentialId: "tokenrow" });
  });

  test("to a public port is nobody's session: it stays when the account's epoch rises", async () => {
    const socket = await socketTo("/", { sub: OWNER, cred: "public" });
    await once(socket, "open");
    const before = host.edge.checked.length;
    host.edge.send({ type: "floor", floor: { sub: OWNER, epoch: 2, at: Date.now() } });
    socket.send("still here");
    await once(socket, "message");
    expect(host.edge.checked.length).toBe(before);
    socket.terminate();
  });
});

describe("idleness", () => {
  const idleFor1s = () =>
    host.request(
      "PUT",
      `/vms/${vm}/idle`,
      { vm, op: "update" },
      {
        body: JSON.stringify({ idleTimeoutSeconds: 1, activityThresholdBytes: 1_000 }),
        headers: { "content-type": "application/json" },
      },
    );

  test("does not come while a request waits for its answer, and comes over a WebSocket that only keeps itself alive", async () => {
    const socket = await socketTo("/");
    await once(socket, "open");
    await idleFor1s();
    const keepAlive = setInterval(() => socket.ping(), 100);
    await once(socket, "close");
    clearInterval(keepAlive);
    await until(async () => (await state()) === "suspended", "the VM sleeps");
  });
});
