import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { acknowledged, endOf, unacknowledgedIn } from "../../host/unacknowledged.ts";

/** Both ends of a connection over loopback. */
async function connection(): Promise<{ near: Socket; far: Socket }> {
  const server = createServer({ pauseOnConnect: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const accepted = once(server, "connection");
  const near = connect(address.port, "127.0.0.1");
  const far: Socket = (await accepted)[0];
  onTestFinished(() => {
    for (const socket of [near, far]) socket.destroy();
    server.close();
  });
  return { near, far };
}

async function isAcknowledged(socket: Socket, timeoutMs: number): Promise<boolean> {
  const since = performance.now();
  await acknowledged(socket, timeoutMs);
  return performance.now() - since < timeoutMs;
}

test("what a peer has taken is acknowledged, what it has no room for is not until it reads, and a socket that is gone owes nothing", async () => {
  const { near, far } = await connection();
  near.write("a little");
  expect(await isAcknowledged(near, 5_000)).toBe(true);
  // More than the kernel's buffers take on both sides.
  near.write(Buffer.alloc(32 * 1024 ** 2));
  expect(await isAcknowledged(near, 200)).toBe(false);
  far.resume();
  expect(await isAcknowledged(near, 10_000)).toBe(true);
  near.destroy();
  expect(await isAcknowledged(near, 5_000)).toBe(true);
});

test("a connection's line is found by both its ends, and what is not in the table owes nothing", () => {
  const table = [
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt",
    "   0: 0100007F:1F90 0200007F:0016 01 0000002A:00000001 00:00000000 00000000",
    "",
  ].join("\n");
  expect(unacknowledgedIn(table, endOf("127.0.0.1", 8080), endOf("127.0.0.2", 22))).toBe(42);
  expect(unacknowledgedIn(table, endOf("127.0.0.1", 8080), endOf("127.0.0.2", 23))).toBe(0);
});
