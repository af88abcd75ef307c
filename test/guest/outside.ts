import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { run } from "./guest-world.ts";

/** A machine outside the host, as guests see it: a network namespace with an address of its own (RFC 5737) and one open port. */
export interface Outside {
  readonly address: string;
  readonly port: number;
  close(): Promise<void>;
}

const PORT = 8080;
const SERVER = `require("node:net").createServer((socket) => socket.end()).listen(${PORT}, "0.0.0.0", () => console.log("listens"))`;

/** Makes it; its route is the host's own, so packets to it take the same way as those to the internet. */
export async function openOutside(): Promise<Outside> {
  const name = `out${randomBytes(3).toString("hex")}`;
  const ip = async (...args: string[]) => {
    const done = await run("ip", args);
    if (done.status !== 0) throw new Error(`ip ${args.join(" ")}: ${done.stderr}`);
  };
  const [here, address] = ["198.51.100.1", "198.51.100.2"];
  await ip("netns", "add", name);
  await ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name);
  await ip("address", "add", `${here}/30`, "dev", name);
  await ip("link", "set", name, "up");
  await ip("-n", name, "address", "add", `${address}/30`, "dev", "eth0");
  await ip("-n", name, "link", "set", "eth0", "up");
  const server = spawn("ip", ["netns", "exec", name, process.execPath, "-e", SERVER], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => server.stdout.once("data", resolve));
  return {
    address,
    port: PORT,
    close: async () => {
      await ended(server);
      await ip("netns", "delete", name);
      await run("ip", ["link", "delete", name]);
    },
  };
}

async function ended(server: ChildProcess): Promise<void> {
  const exit = new Promise((resolve) => server.once("exit", resolve));
  server.kill("SIGKILL");
  await exit;
}
