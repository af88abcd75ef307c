import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { buffer } from "node:stream/consumers";
import { afterEach, expect, test } from "vitest";
import { pump } from "../../service/pump.ts";

const undo: (() => void)[] = [];
afterEach(() => {
  for (const step of undo.splice(0)) step();
});

/** Both ends of a connection, half open. */
async function connection(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer({ allowHalfOpen: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const far = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", allowHalfOpen: true });
  const [near] = (await once(server, "connection")) as [Socket];
  for (const socket of [near, far]) socket.on("error", () => undefined);
  undo.push(() => {
    near.destroy();
    far.destroy();
    server.close();
  });
  return { near, far };
}

async function pumped(): Promise<{ source: Socket; from: Socket; to: Socket; sink: Socket; counted: () => number }> {
  const left = await connection();
  const right = await connection();
  let bytes = 0;
  pump(left.near, right.near, (more) => {
    bytes += more;
  });
  return { source: left.far, from: left.near, to: right.near, sink: right.far, counted: () => bytes };
}

test("what goes in comes out, byte for byte and counted, and so does the end", async () => {
  const { source, sink, counted } = await pumped();
  const sent = randomBytes(5_000_000);
  source.end(sent);
  expect((await buffer(sink)).equals(sent)).toBe(true);
  expect(counted()).toBe(sent.length);
});

test("the memory of what was written is given back", async () => {
  const { source, from, sink } = await pumped();
  const chunks: Buffer[] = [];
  from.on("data", (chunk: Buffer) => chunks.push(chunk));
  source.end(Buffer.alloc(1_000_000));
  await buffer(sink);
  const whole = chunks.filter((chunk) => chunk.length >= 4_096);
  expect(whole).toEqual([]);
  expect(chunks.length).toBeGreaterThan(0);
});

test("a side that does not take what is sent stops the other", async () => {
  const { source, from, sink } = await pumped();
  sink.pause();
  source.write(Buffer.alloc(64 * 1024 * 1024));
  await expect.poll(() => from.isPaused()).toBe(true);
  expect(from.bytesRead).toBeLessThan(32 * 1024 * 1024);
  sink.resume();
  await expect.poll(() => from.bytesRead, { timeout: 10_000 }).toBe(64 * 1024 * 1024);
});

test("when the receiver is gone, the sender's end is still seen", async () => {
  const { source, from, to } = await pumped();
  to.destroy();
  const ended = once(from, "end");
  source.end(Buffer.alloc(3_000_000));
  await ended;
});
