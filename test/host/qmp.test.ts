import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, expect, it } from "vitest";
import { GuestLine } from "../../host/drivers/qemu/guest-line.ts";
import { Qmp } from "../../host/drivers/qemu/qmp.ts";

let dir: string;
let path: string;
let server: Server;
const sockets = new Set<Socket>();

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "postern-qmp-"));
  path = join(dir, "socket");
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  server?.close();
  rmSync(dir, { recursive: true, force: true });
});

/** Serves the other end of a socket: what it says to whoever connects, and to each line. */
const serve = (greet: string, onLine: (line: string, socket: Socket) => void) =>
  new Promise<void>((resolve) => {
    server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.write(greet);
      createInterface({ input: socket }).on("line", (line) => onLine(line, socket));
    });
    server.listen(path, resolve);
  });

type Asked = { execute: string; id: number; arguments: unknown };
const GREETING = '{"QMP": {"version": {}, "capabilities": []}}\n';
const monitor = (answer: (asked: Asked) => object | string | null) =>
  serve(GREETING, (line, socket) => {
    const asked = JSON.parse(line) as Asked;
    const said = asked.execute === "qmp_capabilities" ? { return: {}, id: asked.id } : answer(asked);
    if (said === "hang up") socket.destroy();
    else if (said !== null) socket.write(typeof said === "string" ? said : `${JSON.stringify(said)}\n`);
  });

it("each answer goes to its question, whatever order, events and nonsense come between", async () => {
  const held: Asked[] = [];
  await monitor((asked) => {
    held.push(asked);
    if (held.length < 2) return 'nonsense\n{"event": "STOP", "timestamp": {}}\n{"return": 1}\n{"return": "stranger", "id": 99}\n';
    const [first, second] = held as [Asked, Asked];
    return `${JSON.stringify({ return: second.execute, id: second.id })}\n${JSON.stringify({ return: first.execute, id: first.id })}\n`;
  });
  const qmp = await Qmp.open(path, 2_000);
  expect(await Promise.all([qmp.ask("one"), qmp.ask("two", { with: 1 })])).toEqual(["one", "two"]);
  expect(held[1]?.arguments).toEqual({ with: 1 });
  qmp.close();
});

it("a refusal is told in QEMU's words with the command's name", async () => {
  await monitor(({ id }) => ({ error: { class: "GenericError", desc: "not while it sleeps" }, id }));
  const qmp = await Qmp.open(path, 2_000);
  await expect(qmp.ask("cont")).rejects.toThrow("cont: not while it sleeps");
  qmp.close();
});

it("a QEMU that dies fails every question, those of later too", async () => {
  await monitor(() => "hang up");
  const qmp = await Qmp.open(path, 2_000);
  await expect(qmp.ask("quit")).rejects.toThrow("QEMU");
  await expect(qmp.ask("stop")).rejects.toThrow("QEMU");
});

it("a QEMU that does not answer is not waited for longer than said", async () => {
  await monitor(() => null);
  const qmp = await Qmp.open(path, 100);
  await expect(qmp.ask("stop")).rejects.toThrow("no answer in 100 ms");
  qmp.close();
});

it("no QEMU at all is said at once", async () => {
  await expect(Qmp.open(path, 2_000)).rejects.toThrow("ENOENT");
});

it("a guest is believed for the answer to this very question only", async () => {
  const heard: string[] = [];
  await serve("", (line, socket) => {
    heard.push(line);
    const [number, verb] = line.split(" ");
    socket.write("ok 1\nready\nok\n");
    if (verb === "sync") socket.write(`ok ${number}\n`);
  });
  const line = new GuestLine(path);
  expect(await line.ask("wake", ["1"], 100)).toBe(false);
  expect(await line.ask("sync", [], 2_000)).toBe(true);
  expect(heard.filter((text) => text !== "")).toEqual([expect.stringMatching(/^\d+ wake 1$/), expect.stringMatching(/^\d+ sync$/)]);
});

it("a guest that is not there, or hangs up, did not do it", async () => {
  expect(await new GuestLine(path).ask("sync", [], 2_000)).toBe(false);
  await serve("", (_line, socket) => socket.destroy());
  expect(await new GuestLine(path).ask("sync", [], 2_000)).toBe(false);
});
