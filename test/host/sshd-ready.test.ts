import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterEach, expect, it } from "vitest";
import { sshdAnswers } from "../../host/sshd-ready.ts";

let server: Server | undefined;
const sockets = new Set<Socket>();
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  server?.close();
});

/** Listens on a free port; each connection is handled with its number, from 1. */
const listen = async (onConnection: (socket: Socket, number: number) => void) => {
  let connections = 0;
  const listening = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    connections += 1;
    onConnection(socket, connections);
  });
  server = listening;
  await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve));
  return { address: { host: "127.0.0.1", port: (listening.address() as AddressInfo).port }, connections: () => connections };
};

it("a slow sshd is waited for on one connection instead of being asked again and again", async () => {
  const { address, connections } = await listen((socket) => setTimeout(() => socket.write("SSH-2.0-slow\r\n"), 1_500));
  expect(await sshdAnswers(address, { timeoutMs: 10_000, pollMs: 10 })).toBe(true);
  expect(connections()).toBe(1);
});

it("one that hangs up or says something else is asked again", async () => {
  const { address, connections } = await listen((socket, number) => {
    if (number === 1) socket.destroy();
    else socket.write(number === 2 ? "HTTP/1.1 400\r\n" : "SSH-2.0-up\r\n");
  });
  expect(await sshdAnswers(address, { timeoutMs: 10_000, pollMs: 10 })).toBe(true);
  expect(connections()).toBe(3);
});

it("one that never says a word is given up in time, after more than one try", async () => {
  const { address, connections } = await listen(() => undefined);
  const before = performance.now();
  expect(await sshdAnswers(address, { timeoutMs: 2_500, pollMs: 10 })).toBe(false);
  expect(performance.now() - before).toBeLessThan(10_000);
  expect(connections()).toBeGreaterThan(1);
});
