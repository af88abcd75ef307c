import { randomInt } from "node:crypto";
import { connect, createServer } from "node:net";

/**
 * Ports to choose from: below those that the kernel gives to outgoing connections (ip(7), `ip_local_port_range`), of which any may be
 * taken between the choice and the use.
 */
const FIRST_PORT = 10_000;
const LAST_PORT = 32_000;

/** The first of `count` ports in a row on which nobody listens at 127.0.0.1. */
export async function freePort(count = 1): Promise<number> {
  for (;;) {
    const first = randomInt(FIRST_PORT, LAST_PORT - count);
    const free = await Promise.all(Array.from({ length: count }, (_, nth) => isFree(first + nth)));
    if (!free.includes(false)) return first;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer().once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** What the other side of a connection says first. */
export function firstBytes(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    socket.setTimeout(5_000, () => socket.destroy(new Error("the other side says nothing")));
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("closed before a byte")));
    socket.once("data", (data) => {
      resolve(data.toString("latin1"));
      socket.destroy();
    });
  });
}
