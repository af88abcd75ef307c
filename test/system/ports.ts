import { randomInt } from "node:crypto";
import { connect } from "node:net";
import { FIRST_PORT, isFree, LAST_PORT } from "../../bin/start/ports.ts";

/** The first of `count` ports in a row on which nobody listens at 127.0.0.1. */
export async function freePort(count = 1): Promise<number> {
  for (;;) {
    const first = randomInt(FIRST_PORT, LAST_PORT - count);
    const free = await Promise.all(Array.from({ length: count }, (_, nth) => isFree("127.0.0.1", first + nth)));
    if (!free.includes(false)) return first;
  }
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
