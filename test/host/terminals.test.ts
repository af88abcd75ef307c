import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { VmTerminals } from "./support/terminals-fixture.ts";
import { startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

let host: TestHost;
let terminals: VmTerminals;
beforeAll(async () => {
  host = await startTestHost({ POSTERN_TERMINAL_SCROLLBACK_BYTES: "2000", POSTERN_TERMINAL_QUICK_EXITS: "3" });
}, 60_000);
afterAll(() => host.close());
beforeEach(async () => {
  terminals = await VmTerminals.ofNewVm(host);
  const made = terminals;
  onTestFinished(() => made.act("delete"));
}, 60_000);

describe("a session", () => {
  test("is an interactive login shell of the ticket's Linux user on a terminal of the wanted size", async () => {
    const client = await terminals.open({ cols: "93", rows: "31" }, { user: "alice" });
    client.type("id -un; pwd; stty size; tty; echo $TERM $-\r");
    await client.shows(/alice\r\n\/home\/alice\r\n31 93\r\n\/dev\/pts\/\d+\r\nxterm-256color \w*i/);
  });

  test("runs a command instead when one is named, and tells its exit code", async () => {
    const client = await terminals.open({ exec: "echo ran; exit 7" });
    expect(await client.told("exited")).toEqual({ type: "exited", exitCode: 7 });
    expect(client.screen).toBe("ran\r\n");
    expect((await client.isClosed()).code).toBe(1000);
  });

  test("is read without a socket: as it was written, and as plain lines; by its user and root alone", async () => {
    const client = await terminals.open({ exec: "printf '\\033[31mred\\033[0m\\nü\\n'", name: "logged" }, { user: "alice" });
    await client.told("exited");
    const read = (user: string, name = "logged") =>
      host.request("GET", `/vms/${terminals.vm}/terminals/${name}/output`, { vm: terminals.vm, user, op: "terminal" });
    const expected = { output: "\u001b[31mred\u001b[0m\r\nü\r\n", lines: ["red", "ü"] };
    for (const user of ["alice", "root"]) expect(await (await read(user)).json()).toEqual(expected);
    expect((await read("bob")).status).toBe(404);
    expect((await read("root", "absent")).status).toBe(404);
  });

  test("shows what a fast command wrote before the socket was there", async () => {
    const client = await terminals.open({ exec: "echo fast" });
    await client.told("exited");
    expect(client.screen).toBe("fast\r\n");
  });

  test("passes bytes unchanged, whatever they are", async () => {
    const client = await terminals.open({ exec: "stty raw -echo; echo ready; head -c 4 | od -An -tx1; printf '\\377\\376'" });
    await client.shows(/ready/);
    client.socket.send(Buffer.from([0x00, 0xff, 0x1b, 0xc3]));
    await client.told("exited");
    expect(client.screen).toContain(" 00 ff 1b c3");
    expect(Buffer.concat(client.frames).subarray(-2)).toEqual(Buffer.from([0xff, 0xfe]));
  });

  test("is resized by a frame, and to the smallest of those who watch", async () => {
    const first = await terminals.open({ cols: "100", rows: "40" });
    const second = await terminals.attach("pty-1", { cols: "90", rows: "50" });
    first.type("stty size\r");
    await first.shows(/40 90/);
    second.control({ type: "resize", cols: 120, rows: 20 });
    await until(async () => (await terminals.list())[0]?.rows === 20, "the size is known");
    first.type("stty size\r");
    await first.shows(/20 100/);
    await second.drop();
    await until(async () => (await terminals.list())[0]?.rows === 40, "the other's size counts again");
    first.type("stty size\r");
    await first.shows(/40 100/);
  });

  test.each([
    ["capital letters", "SIGINT"],
    ["small letters", "sigint"],
  ])("is interrupted by SIGINT in %s, and lives on", async (_how, signal) => {
    const client = await terminals.open();
    client.type("echo star''ted; sleep 4711\r");
    await client.shows(/started/);
    await until(() => terminals.runs("sleep 4711"), "the command runs");
    client.control({ type: "signal", signal });
    await until(async () => !(await terminals.runs("sleep 4711")), "the command is gone");
    client.type("echo ali''ve\r");
    await client.shows(/alive/);
  });

  test.each(["root", "alice"])("of %s is ended by SIGKILL with every process of its terminal", async (user) => {
    const client = await terminals.open({}, { user });
    client.type("trap '' HUP; (trap '' HUP; sleep 4712)& echo star''ted; exec sleep 4713\r");
    await client.shows(/started/);
    await until(() => terminals.runs("sleep 4713"), "the command runs");
    client.control({ type: "signal", signal: "SIGKILL" });
    expect(await client.told("exited")).toMatchObject({ exitCode: 137 });
    expect(await terminals.runs("sleep 4712")).toBe(false);
  });

  test("outlives its sockets, and shows its last output first to whoever attaches", async () => {
    const client = await terminals.open();
    client.type("echo be''fore\r");
    await client.shows(/before/);
    await client.drop();
    expect(await terminals.list()).toMatchObject([{ name: "pty-1", running: true, attached: 0 }]);
    const again = await terminals.attach("pty-1");
    await again.shows(/before/);
    expect(again.frames[0]?.toString()).toContain("before");
    again.type("echo af''ter\r");
    await again.shows(/after/);
  });

  test("keeps no more output than the setting, and begins with a whole character", async () => {
    const client = await terminals.open({
      exec: "stty raw; for i in $(seq 2000); do printf '\\303\\244'; done; printf end; sleep 4714",
    });
    await client.shows(/end$/);
    const again = await terminals.attach("pty-1");
    await again.shows(/end$/);
    const [scrollback] = again.frames;
    expect(scrollback?.length).toBeLessThanOrEqual(2000);
    expect(scrollback?.length).toBeGreaterThan(1990);
    expect(scrollback?.toString("utf8")).toMatch(/^ä+end$/);
  });

  test("is watched and typed into by many at once", async () => {
    const clients = [await terminals.open(), await terminals.attach("pty-1"), await terminals.attach("1", { dialect: "v5" })];
    clients[1]?.type("echo to''gether\r");
    for (const client of clients) await client.shows(/together/);
    expect(await terminals.list()).toMatchObject([{ attached: 3 }]);
  });

  test("that exited is kept with its exit code and its last output", async () => {
    await (await terminals.open({ exec: "echo bye; exit 3" })).told("exited");
    expect(await terminals.list()).toMatchObject([
      { running: false, exitCode: 3, exec: "echo bye; exit 3", exitedAt: expect.any(Number) },
    ]);
    const late = await terminals.attach("pty-1");
    expect(await late.told("exited")).toEqual({ type: "exited", exitCode: 3 });
    expect(late.screen).toBe("bye\r\n");
  });

  test("that is closed is killed and forgotten", async () => {
    const client = await terminals.open({ exec: "trap '' HUP TERM; while :; do sleep 4715; done" });
    await until(() => terminals.runs("sleep 4715"), "the command runs");
    expect(await (await terminals.close("pty-1")).json()).toEqual({ number: 1, name: "pty-1", exitCode: null });
    await client.isClosed();
    expect(await terminals.list()).toEqual([]);
    expect(await terminals.runs("sleep 4715")).toBe(false);
    await expect(terminals.attach("pty-1")).rejects.toMatchObject({ status: 404, kind: "session-not-found" });
  });

  test("leaves alone what moved to a session of its own", async () => {
    await terminals.open({ exec: "setsid sleep 4716 & exec sleep 4717" });
    await until(async () => (await terminals.runs("sleep 4716")) && (await terminals.runs("sleep 4717")), "both run");
    await terminals.close("pty-1");
    await until(async () => !(await terminals.runs("sleep 4717")), "the terminal's is gone");
    expect(await terminals.runs("sleep 4716")).toBe(true);
  });

  test("that is replaced when it exits keeps its number and output, until it exits in quick succession", async () => {
    const client = await terminals.open({ dialect: "v5", exec: "echo life; exit 4", replaceOnExit: "true" });
    expect(await client.told("exited")).toEqual({ type: "exited", exitCode: 4 });
    expect(client.screen).toBe("life\r\n".repeat(3));
    expect(await terminals.list()).toMatchObject([{ number: 1, running: false, exitCode: 4 }]);
  });

  test("that is replaced when it exits is not brought back by closing it", async () => {
    await terminals.open({ dialect: "v5", exec: "sleep 4718", replaceOnExit: "true" });
    await until(() => terminals.runs("sleep 4718"), "the command runs");
    await terminals.close("1", "root", "v5");
    await until(async () => !(await terminals.runs("sleep 4718")), "it is gone");
    expect(await terminals.list()).toEqual([]);
  });
});

describe("frames", () => {
  test("of 0.1 name the session by its name", async () => {
    expect(await (await terminals.open({ name: "build.1_a-B" })).told("sessionInfo")).toEqual({
      type: "sessionInfo",
      sessionId: "build.1_a-B",
    });
    expect(await (await terminals.open()).told("sessionInfo")).toEqual({ type: "sessionInfo", sessionId: "pty-2" });
  });

  test("of 0.2 name it by its number and slug, and say whether it is new", async () => {
    const first = await terminals.open({ dialect: "v5", slug: "main", exec: "cat" });
    expect(await first.told("sessionInfo")).toEqual({ type: "sessionInfo", sessionId: 1, slug: "main", created: true });
    const second = await terminals.open({ dialect: "v5", slug: "main", exec: "echo never" });
    expect(await second.told("sessionInfo")).toEqual({ type: "sessionInfo", sessionId: 1, slug: "main", created: false });
    expect(await (await terminals.attach("main", { dialect: "v5" })).told("sessionInfo")).toMatchObject({
      sessionId: 1,
      created: false,
    });
    expect(await terminals.list()).toMatchObject([{ exec: "cat", slug: "main" }]);
  });

  test.each([
    "not json",
    "[]",
    "null",
    '{"type":"resize","cols":0,"rows":5}',
    '{"type":"signal","signal":"SIGHUP"}',
    '{"type":"eval"}',
  ])("that mean nothing are ignored: %s", async (text) => {
    const client = await terminals.open();
    client.socket.send(text);
    client.type("echo ali''ve; stty size\r");
    await client.shows(/alive\r\n24 80/);
  });
});

test("opening a slug twice at once makes one session", async () => {
  const both = await Promise.all([terminals.open({ dialect: "v5", slug: "one" }), terminals.open({ dialect: "v5", slug: "one" })]);
  const told = await Promise.all(both.map((client) => client.told("sessionInfo")));
  expect(told.map((frame) => frame.created).sort()).toEqual([false, true]);
  expect(await terminals.list()).toHaveLength(1);
});

test("Linux users have their own slugs, see their own sessions, and root sees all", async () => {
  await terminals.open({ dialect: "v5", slug: "main" }, { user: "alice" });
  await terminals.open({ dialect: "v5", slug: "main" }, { user: "bob" });
  await terminals.open({ dialect: "v5", slug: "main" });
  const names = async (user: string) => (await terminals.list(user)).map((row) => `${row.number} ${row.linuxUser}`);
  expect(await names("alice")).toEqual(["1 alice"]);
  expect(await names("bob")).toEqual(["2 bob"]);
  expect(await names("root")).toEqual(["1 alice", "2 bob", "3 root"]);
  expect(await (await terminals.attach("1", { dialect: "v5" })).told("sessionInfo")).toMatchObject({ sessionId: 1 });
});
