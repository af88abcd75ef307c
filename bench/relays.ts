import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Address } from "./distance.ts";

const RELAY = fileURLToPath(new URL("bare-relay.ts", import.meta.url));

/** Gives `use` the address before a chain of `count` Node.js processes that do nothing but copy TCP's bytes on to `to`. */
export async function behindRelays<T>(to: Address, count: number, use: (address: Address) => Promise<T>): Promise<T> {
  const relays: ChildProcess[] = [];
  let address = to;
  try {
    for (let relay = 0; relay < count; relay += 1) {
      const child = spawn(process.execPath, [RELAY, address.host, String(address.port)], { stdio: ["ignore", "pipe", "inherit"] });
      relays.push(child);
      const [port] = await once(createInterface(child.stdout), "line");
      address = { host: "127.0.0.1", port: Number(port) };
    }
    return await use(address);
  } finally {
    for (const relay of relays) relay.kill();
  }
}
