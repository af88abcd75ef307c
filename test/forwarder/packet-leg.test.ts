import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import ssh2 from "ssh2";
import { afterEach, beforeEach, expect, test } from "vitest";
import { attachLeg, socketOf } from "../../forwarder/packet-leg.ts";
import { disconnectMessage, ignoreMessage } from "../../forwarder/ssh-messages.ts";
import { rekey } from "../../forwarder/ssh2-handshake.ts";
import { Ssh2Moved } from "../../forwarder/ssh2-moved.ts";
import { connectPair, type Pair } from "./support/ssh2-pair.ts";

let pair: Pair;
beforeEach(async () => {
  pair = await connectPair();
});
afterEach(() => pair.close());

test("the version of ssh2 is the one whose private fields this was written for", () => {
  const path = createRequire(import.meta.url).resolve("ssh2/package.json");
  expect(JSON.parse(readFileSync(path, "utf8"))).toMatchObject({ version: "1.17.0" });
});

test("a connection without the private fields is refused loudly", () => {
  expect(() => attachLeg({}, pair.serverSocket, () => undefined)).toThrow(Ssh2Moved);
  expect(() => attachLeg({ _protocol: { _onPayload: () => undefined } }, pair.serverSocket, () => undefined)).toThrow(Ssh2Moved);
});

test("the socket of a connection is found, and nothing else taken for one", () => {
  expect(socketOf(pair.serverSsh)).toBe(pair.serverSocket);
  expect(socketOf({})).toBeNull();
  expect(socketOf({ _sock: {} })).toBeNull();
});

test("ssh2 sends no keepalive requests of its own to a client", () => {
  expect(ssh2.Server.KEEPALIVE_CLIENT_INTERVAL).toBe(0);
});

test("a payload of types 80 to 127 arrives at the other leg byte for byte, and ssh2 sees none of it", async () => {
  const payloads = [80, 90, 94, 98, 100, 127].map((type) => Buffer.of(type, 0, 255, 13, 10, type));
  for (const payload of payloads) pair.client.send(payload);
  await expect.poll(() => pair.atServer).toEqual(payloads);
  for (const payload of payloads) pair.server.send(payload);
  await expect.poll(() => pair.atClient).toEqual(payloads);
});

test("payloads sent during a key exchange arrive after it, in order, and count as unsent", async () => {
  const rekeyed = once(pair.clientSsh, "handshake");
  rekey(pair.serverSsh);
  const payloads = Array.from({ length: 50 }, (_, index) => Buffer.concat([Buffer.of(94, index), Buffer.alloc(1000, index)]));
  for (const payload of payloads) pair.server.send(payload);
  expect(pair.server.unsentBytes).toBeGreaterThanOrEqual(50 * 1002);
  for (const payload of payloads) pair.client.send(payload);
  await rekeyed;
  await expect.poll(() => pair.atClient).toEqual(payloads);
  await expect.poll(() => pair.atServer).toEqual(payloads);
  await expect.poll(() => pair.server.unsentBytes).toBe(0);
});

test("who waits for everything to be sent is called after a key exchange too", async () => {
  rekey(pair.serverSsh);
  pair.server.send(Buffer.of(94, 1));
  await new Promise<void>((resolve) => pair.server.onceSent(resolve));
  await expect.poll(() => pair.atClient).toEqual([Buffer.of(94, 1)]);
});

test("who waits for everything to be sent is called even when little was sent", async () => {
  pair.server.send(Buffer.of(94));
  await new Promise<void>((resolve) => pair.server.onceSent(resolve));
  expect(pair.server.unsentBytes).toBe(0);
});

test("a description sent in the middle of a key exchange reaches the peer before the end", async () => {
  const failed = once(pair.clientSsh, "error");
  rekey(pair.serverSsh);
  pair.server.sendNow(disconnectMessage(7, "because"));
  pair.server.close(1000);
  const [error] = await failed;
  expect(String(error)).toContain("because");
});

test("what a logged-in client sent before it left is read to the last packet, in order, however many there are", async () => {
  pair.server.loggedIn();
  const closed = once(pair.serverSocket, "close");
  const payloads = Array.from({ length: 20_000 }, (_, index) => Buffer.of(94, index >> 8, index & 255));
  for (const payload of payloads) pair.client.send(payload);
  pair.client.close(30_000);
  await closed;
  await new Promise<void>((resolve) => pair.server.onceRead(resolve));
  expect(Buffer.concat(pair.atServer).equals(Buffer.concat(payloads))).toBe(true);
});

test("a leg that is paused while packets wait goes on where it was", async () => {
  pair.onServerPacket = (packet) => {
    if (packet.payload[1] !== 0 || packet.payload[2] !== 7) return;
    pair.server.pause();
    setImmediate(() => pair.server.resume());
  };
  const payloads = Array.from({ length: 20_000 }, (_, index) => Buffer.of(94, index >> 8, index & 255));
  for (const payload of payloads) pair.client.send(payload);
  await expect.poll(() => pair.atServer.length, { timeout: 20_000 }).toBe(payloads.length);
  expect(Buffer.concat(pair.atServer).equals(Buffer.concat(payloads))).toBe(true);
});

test("sending on a leg that is closed does nothing", async () => {
  pair.clientSsh.destroy();
  await once(pair.serverSsh, "close");
  expect(() => {
    pair.server.send(Buffer.of(94));
    pair.server.sendNow(disconnectMessage(7, "late"));
    pair.server.close(10);
  }).not.toThrow();
});

test("a paused leg hands over nothing until it is resumed", async () => {
  pair.server.pause();
  pair.client.send(Buffer.of(94, 7));
  await new Promise<void>((resolve) => pair.client.onceSent(resolve));
  expect(pair.atServer).toEqual([]);
  pair.server.resume();
  await expect.poll(() => pair.atServer).toEqual([Buffer.of(94, 7)]);
});

test("closing a leg destroys a peer that does not take the rest", async () => {
  pair.clientSsh.removeAllListeners("error").on("error", () => undefined);
  socketOf(pair.clientSsh)?.pause();
  pair.server.send(Buffer.alloc(32_000, 94));
  const closed = once(pair.serverSocket, "close");
  pair.server.close(50);
  await closed;
});

test("what a peer leaves behind is handed over whole, others have their turns meanwhile, and the end comes after it", async () => {
  pair.server.loggedIn();
  const heard: string[] = [];
  pair.serverSsh.once("close", () => pair.server.onceRead(() => heard.push(`read ${pair.atServer.length}`)));
  let first = Number.NaN;
  pair.onServerPacket = () => {
    if (pair.atServer.length > 1) return;
    setImmediate(() => {
      first = pair.atServer.length;
      heard.push("others");
    });
  };
  // In one go, before the server's process reads any of it: both ends are in this one.
  for (let number = 0; number < 4_000; number += 1) pair.client.send(Buffer.of(94, number >> 8, number & 0xff));
  pair.clientSsh.end();
  await expect.poll(() => heard.length).toBe(2);
  expect(first).toBeLessThan(4_000);
  expect(heard).toEqual(["others", "read 4000"]);
  expect(pair.atServer.map((payload) => payload.readUInt16BE(1))).toEqual(Array.from({ length: 4_000 }, (_, number) => number));
});

test("a peer that does not take what it is answered is not read until it has", async () => {
  const read = async (payload: Buffer) => {
    const before = pair.serverSocket.bytesRead;
    pair.client.send(payload);
    await expect.poll(() => pair.serverSocket.bytesRead).toBeGreaterThan(before);
  };
  pair.serverSocket.cork();
  for (let number = 0; number < 3; number += 1) pair.server.send(Buffer.alloc(30_000, 94));
  // ssh2's own, which it would answer if it were a request.
  await read(ignoreMessage());
  await read(Buffer.of(94, 1));
  expect(pair.atServer).toEqual([]);
  pair.serverSocket.uncork();
  await expect.poll(() => pair.atServer).toEqual([Buffer.of(94, 1)]);
});
