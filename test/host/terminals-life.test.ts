import { connect } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import WebSocket from "ws";
import { failure, success } from "../../protocol/failures.ts";
import { VmTerminals } from "./support/terminals-fixture.ts";
import { startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

let host: TestHost;
let terminals: VmTerminals;
beforeAll(async () => {
  host = await startTestHost({
    POSTERN_VM_TERMINALS: "3",
    POSTERN_TERMINAL_CHECK_MS: "100",
    POSTERN_TERMINAL_HIGH_WATER_BYTES: "100000",
    POSTERN_TERMINAL_BACKLOG_BYTES: "1000000",
    POSTERN_TERMINAL_FRAME_BYTES: "100000",
    POSTERN_RECHECK_DEADLINE_MS: "600",
    POSTERN_RECHECK_RETRY_MS: "50",
  });
}, 60_000);
afterAll(() => host.close());
beforeEach(async () => {
  terminals = await VmTerminals.ofNewVm(host);
  const made = terminals;
  onTestFinished(() => made.act("delete"));
}, 60_000);

describe("when the VM sleeps", () => {
  test("its sessions stay, and listing and closing them wakes nothing", async () => {
    const client = await terminals.open();
    await terminals.open();
    await terminals.act("suspend");
    expect(await terminals.list()).toMatchObject([
      { running: true, suspended: true, attached: 1 },
      { running: true, suspended: true },
    ]);
    expect(client.closed).toBe(null);
    expect((await terminals.close("pty-2")).status).toBe(200);
    expect(await terminals.list()).toMatchObject([{ suspended: true }]);
    expect(await terminals.state()).toBe("suspended");
  });

  test("attaching wakes it, and the session goes on", async () => {
    const client = await terminals.open();
    client.type("kept=sa''me; echo $kept\r");
    await client.shows(/same/);
    await terminals.act("suspend");
    const again = await terminals.attach("pty-1");
    expect(await terminals.state()).toBe("running");
    again.type("echo it is the $kept one\r");
    await again.shows(/it is the same one/);
    expect(await terminals.list()).toMatchObject([{ suspended: false, attached: 2 }]);
  });

  test("typing wakes it", async () => {
    const client = await terminals.open();
    await terminals.act("suspend");
    client.type("echo a''wake\r");
    await client.shows(/awake/);
    await until(async () => (await terminals.state()) === "running", "it runs");
  });
});

describe("when the VM stops", () => {
  test("its sessions end, are kept, and are still readable without waking it", async () => {
    const client = await terminals.open();
    client.type("echo la''st\r");
    await client.shows(/last/);
    await terminals.act("stop");
    expect(await client.told("exited")).toMatchObject({ exitCode: expect.any(Number) });
    expect((await client.isClosed()).code).toBe(1000);
    expect(await terminals.list()).toMatchObject([{ running: false, suspended: false }]);
    const late = await terminals.attach("pty-1");
    await late.told("exited");
    expect(late.screen).toContain("last");
    expect(await terminals.state()).toBe("stopped");
  });

  test("a session that is replaced when it exits does not bring it back", async () => {
    const client = await terminals.open({ replaceOnExit: "true" });
    await terminals.act("stop");
    await client.told("exited");
    expect(await terminals.state()).toBe("stopped");
  });

  test("by itself, its sessions end without anybody asking for anything", async () => {
    const client = await terminals.open();
    await host.driver.die(terminals.vm);
    await client.told("exited");
    expect(await terminals.list()).toMatchObject([{ running: false }]);
  });

  test("and is deleted, its sessions are gone", async () => {
    const client = await terminals.open();
    const other = await VmTerminals.ofNewVm(host);
    const bystander = await other.open();
    const { vm } = terminals;
    await terminals.act("delete");
    await client.isClosed();
    const answer = await host.request("GET", `/vms/${vm}/terminals`, { vm, user: "root", op: "terminal" });
    expect(answer.status).toBe(404);
    expect(bystander.closed).toBe(null);
    await other.act("delete");
  });
});

test("a VM has no more sessions at once than the setting, and room again after one ended", async () => {
  for (const exec of ["sleep 100", "sleep 101", "read line"]) await terminals.open({ exec });
  await expect(terminals.open()).rejects.toMatchObject({ status: 429, kind: "session-cap-reached" });
  (await terminals.attach("pty-3")).type("\r");
  await until(async () => (await terminals.list()).some((row) => !row.running), "one has ended");
  await terminals.open();
  await expect(terminals.open()).rejects.toMatchObject({ status: 429 });
  expect(await terminals.list()).toHaveLength(4);
});

test("no more exited sessions are kept than may run, and those that went are expired", async () => {
  for (let count = 0; count < 5; count += 1) await (await terminals.open({ exec: "true" })).told("exited");
  expect((await terminals.list()).map((row) => row.name)).toEqual(["pty-3", "pty-4", "pty-5"]);
  await expect(terminals.attach("pty-1")).rejects.toMatchObject({ kind: "session-expired" });
  await expect(terminals.attach("2", { dialect: "v5" })).rejects.toMatchObject({ kind: "session-expired" });
});

describe("when a floor rises above a socket's epoch", () => {
  /** Not the one that the tests act as besides. */
  const sub = "identity:bbbbbbbbbbbbbbbb";
  let epoch = 1000;
  const raise = () => {
    epoch += 10;
    host.edge.send({ type: "floor", floor: { sub, epoch, at: Date.now() } });
  };
  beforeEach(() => {
    host.edge.onSessionCheck = () => success({ epoch });
    host.edge.checked.length = 0;
  });

  test("and the edge refuses it, it is closed with a reason, and the session goes on for others", async () => {
    const v5 = await terminals.open({ dialect: "v5" }, { sub, epoch, cred: "revoked", user: "alice" });
    const v1 = await terminals.attach("pty-1", {}, { sub, epoch, cred: "revoked", user: "alice" });
    const other = await terminals.attach("pty-1", {}, { sub, epoch, cred: "good", user: "alice" });
    host.edge.onSessionCheck = ({ credentialId }) =>
      credentialId === "revoked" ? failure("credential-invalid", "revoked") : success({ epoch });
    raise();
    for (const client of [v5, v1])
      expect(await client.isClosed()).toMatchObject({ code: 1008, reason: expect.stringMatching(/revoked/) });
    expect(await v5.told("error")).toMatchObject({ message: expect.stringMatching(/revoked/) });
    expect(v1.texts.map((text) => text.type)).toEqual(["sessionInfo"]);
    other.type("echo still he''re\r");
    await other.shows(/still here/);
    expect(v5.screen).not.toContain("still here");
    expect(host.edge.checked).toContainEqual({
      vmId: terminals.vm,
      linuxUser: "alice",
      operation: "terminal",
      subject: sub,
      credentialId: "revoked",
    });
  });

  test("and the edge lets it, it stays", async () => {
    const client = await terminals.open({}, { sub, epoch });
    raise();
    await until(() => host.edge.checked.length > 0, "the edge was asked");
    client.type("echo still he''re\r");
    await client.shows(/still here/);
  });

  test("and the edge cannot be asked until the deadline, it is closed", async () => {
    const client = await terminals.open({}, { sub, epoch });
    host.edge.onSessionCheck = () => null;
    raise();
    expect(await client.isClosed()).toMatchObject({ code: 1008, reason: expect.stringMatching(/could not be confirmed/) });
    expect(host.edge.checked.length).toBeGreaterThan(1);
    expect(await terminals.list()).toMatchObject([{ running: true, attached: 0 }]);
  });

  test("sockets that open under it are refused", async () => {
    await until(async () => {
      raise();
      return terminals.open({}, { sub, epoch: 1 }).then(
        () => false,
        (error: { kind?: unknown }) => error.kind === "stale-epoch",
      );
    }, "the floor is known");
  });
});

describe("a socket that does not keep up", () => {
  const flood = { exec: "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo do''ne; sleep 100" };

  test("is closed once it lags too far behind another, and the session is not hurt", async () => {
    const fast = await terminals.open({ exec: `read line; ${flood.exec}` });
    const slow = await terminals.attach("pty-1");
    slow.socket.pause();
    fast.type("\r");
    await fast.shows(/done/);
    expect(fast.screen.length).toBeGreaterThan(20_000_000);
    await until(async () => (await terminals.list())[0]?.attached === 1, "the slow one is gone");
    slow.socket.resume();
    await slow.isClosed();
    expect(slow.screen.length).toBeLessThan(fast.screen.length);
  });

  test("holds the guest back when nobody else watches, and loses nothing", async () => {
    const client = await terminals.open(flood);
    client.socket.pause();
    // Each of these takes a while, in which an unbounded host would take the whole flood.
    for (let round = 0; round < 5; round += 1) await terminals.runs("tr");
    client.socket.resume();
    await client.shows(/done/);
    expect(client.screen.replaceAll(/[^x]/g, "").length).toBe(20_000_000);
  });

  test("does not keep a session from its end", async () => {
    const client = await terminals.open({ exec: "head -c 3000000 /dev/zero | tr '\\0' x; exit 5" });
    client.socket.pause();
    await terminals.attach("pty-1");
    await until(async () => (await terminals.list())[0]?.running === false, "the session has ended");
    client.socket.terminate();
    expect(await terminals.list()).toMatchObject([{ exitCode: 5 }]);
  });
});

test("a frame over the limit closes its socket and leaves the session alone", async () => {
  const client = await terminals.open();
  client.socket.send(Buffer.alloc(100_001));
  expect((await client.isClosed()).code).toBe(1009);
  expect(await terminals.list()).toMatchObject([{ running: true, attached: 0 }]);
});

test("a shell that reads nothing does not make the host hold what is typed", async () => {
  const client = await terminals.open({ exec: "stty raw -echo; echo ready; sleep 100" });
  await client.shows(/ready/);
  for (let count = 0; count < 200; count += 1) client.socket.send(Buffer.alloc(100_000));
  // 20 MB: the kernel's buffers and the channel's window take some, the rest stays with the client.
  await terminals.list();
  expect(client.socket.bufferedAmount).toBeGreaterThan(5_000_000);
  expect(client.closed).toBe(null);
});

test("a session whose caller went away while it was made is ended", async () => {
  const { vm } = terminals;
  await terminals.act("stop");
  const ticket = await host.edge.ticket(host.agent.id, { vm, user: "root", op: "terminal" });
  const { hostname, port } = new URL(host.agent.url);
  const socket = connect({ host: hostname, port: Number(port) });
  const headers = [
    "connection: upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
  ];
  const request = [
    `GET /vms/${vm}/terminals/open?dialect=v1 HTTP/1.1`,
    "host: host",
    `authorization: Bearer ${ticket}`,
    ...headers,
  ];
  socket.write(`${request.join("\r\n")}\r\n\r\n`);
  await until(async () => (await terminals.list()).length === 1, "it is being made");
  socket.destroy();
  await until(async () => (await terminals.list()).length === 0, "it is gone");
});

describe("a host", () => {
  test("drops sockets that show no life, and says goodbye when it closes", async () => {
    const own = await startTestHost({ POSTERN_TERMINAL_PING_MS: "200" });
    const there = await VmTerminals.ofNewVm(own);
    const client = await there.open();
    const ticket = await own.edge.ticket(own.agent.id, { vm: there.vm, user: "root", op: "terminal" });
    const url = `${own.agent.url.replace("http", "ws")}/vms/${there.vm}/terminals/pty-1/attach?dialect=v1`;
    const dead = new WebSocket(url, { headers: { authorization: `Bearer ${ticket}` }, autoPong: false });
    const dropped = new Promise((resolve) => dead.once("close", resolve));
    expect(await dropped).toBe(1006);
    expect(client.closed).toBe(null);
    await own.close();
    expect((await client.isClosed()).code).toBe(1001);
  }, 60_000);
});

test("no ticket, command or keystroke is in the host's log", async () => {
  const client = await terminals.open({ exec: "read secret; echo $secret-shown" });
  client.type("hunter2\r");
  await client.shows(/hunter2-shown/);
  const log = host.log.join("");
  expect(log).toContain("terminal attached");
  expect(log).not.toMatch(/hunter2|read secret|Bearer|eyJ/);
});
