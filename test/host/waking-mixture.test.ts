import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { GuestServer } from "./support/guest-server.ts";
import { TerminalClient } from "./support/terminal-client.ts";
import { startTestHost, type TestHost } from "./support/test-host.ts";

const CALLERS = 500;
const PORT = 3000;

let host: TestHost;
let vm: string;
let guest: GuestServer;
beforeAll(async () => {
  host = await startTestHost();
}, 60_000);
afterAll(() => host.close());
beforeEach(async () => {
  vm = await host.createVm();
  guest = await GuestServer.start(host.driver.addressOf(vm), PORT);
  await host.request("POST", `/vms/${vm}/stop`, { vm, op: "stop" });
});
afterEach(() => guest.stop());

const { publicKey } = generateSshKeyPair(platformRandomBytes);

/** Asks for a tunnel and answers the status. */
async function tunnel(): Promise<number> {
  const ticket = await host.edge.ticket(host.agent.id, { vm, op: "ssh", user: "root" });
  const { hostname, port } = new URL(host.agent.url);
  const socket = connect(Number(port), hostname);
  socket.write(
    `CONNECT ${vm}:22 HTTP/1.1\r\nhost: ${vm}:22\r\nproxy-authorization: Bearer ${ticket}\r\npostern-ssh-key: ${publicKey}\r\n\r\n`,
  );
  const [head] = (await once(socket, "data")) as [Buffer];
  socket.destroy();
  return Number(head.toString("latin1").split(" ")[1]);
}

async function terminal(): Promise<number> {
  try {
    const client = await TerminalClient.connect(host, `/vms/${vm}/terminals/open?dialect=v1`, { vm });
    await client.drop();
    return 200;
  } catch (error) {
    return (error as { status: number }).status;
  }
}

const status = async (answer: Promise<Response>) => {
  const response = await answer;
  await response.arrayBuffer();
  return response.status;
};

/** Every way to wake a VM, the dear ones rarer. */
const ways: readonly (() => Promise<number>)[] = [
  () => status(host.request("GET", `/vms/${vm}/http/${PORT}/`, { vm, op: "http" })),
  () => status(host.request("POST", `/vms/${vm}/start`, { vm, op: "start" })),
  () => status(host.request("GET", `/vms/${vm}/files?path=%2Fetc%2Fpasswd`, { vm, op: "files", user: "root" })),
  () => status(host.exec(vm, "root", { command: "true" })),
  tunnel,
  terminal,
];

/** A caller's way in: one in twenty opens a terminal, one in twenty a tunnel, and so on. */
function callerOf(index: number): () => Promise<number> {
  const rare = ways[2 + (index % 20)];
  return rare ?? (index % 2 === 0 ? (ways[0] ?? tunnel) : (ways[1] ?? tunnel));
}

const callAll = () => Promise.all(Array.from({ length: CALLERS }, (_, index) => callerOf(index)()));

test("500 concurrent callers of any mixture cause exactly one wake, and every one is served", async () => {
  const before = host.driver.calls.start;
  const statuses = await callAll();
  expect(statuses.filter((code) => code >= 300)).toEqual([]);
  expect(host.driver.calls.start).toBe(before + 1);
});

test("a wake that fails gives all of them the same clear error, and the next caller a clean start", async () => {
  host.driver.failing.add("start");
  const statuses = await callAll();
  host.driver.failing.delete("start");
  expect(new Set(statuses)).toEqual(new Set([500]));
  expect(await Promise.all(ways.map((way) => way()))).toEqual([201, 200, 200, 200, 200, 200]);
});
