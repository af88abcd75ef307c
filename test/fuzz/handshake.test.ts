import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import fc from "fast-check";
import ssh2 from "ssh2";
import { afterAll, beforeAll, expect, test } from "vitest";
import { clientAlgorithms } from "../../forwarder/algorithms.ts";
import { attachLeg, socketOf } from "../../forwarder/packet-leg.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { FUZZ_RUNS, mutated } from "./support/mutations.ts";

/** The SSH server as the forwarder sets it up, on real sockets: what it throws would end every session of the process. */
const uncaught: unknown[] = [];
let port: number;
let loggedIn = 0;
const sockets = new Set<Socket>();
const ssh = new ssh2.Server(
  {
    hostKeys: [generateSshKeyPair(platformRandomBytes).privateKey],
    ident: "Postern",
    algorithms: clientAlgorithms(["aes128-gcm@openssh.com"]),
  },
  (connection) => {
    const socket = socketOf(connection);
    if (socket === null) throw new Error("no socket");
    attachLeg(connection, socket, () => {
      loggedIn += 1;
    });
    connection.on("error", () => undefined);
    connection.on("authentication", (context) => context.reject());
  },
);
const listener = createServer((socket) => {
  sockets.add(socket);
  socket.on("error", () => undefined);
  ssh.injectSocket(socket);
});
const note = (error: unknown) => uncaught.push(error);

beforeAll(async () => {
  process.on("uncaughtException", note);
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  port = (listener.address() as AddressInfo).port;
});
afterAll(() => {
  process.off("uncaughtException", note);
  for (const socket of sockets) socket.destroy();
  listener.close();
});

test("no handshake, however broken and however cut, brings the server down or past its login", async () => {
  const cuts = fc.array(fc.nat(400), { maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(mutated("handshakes"), cuts, async (bytes, places) => {
      const socket = connect({ port, host: "127.0.0.1", noDelay: true });
      socket.on("error", () => undefined).resume();
      await once(socket, "connect");
      const edges = [0, ...places.filter((at) => at < bytes.length).sort((one, other) => one - other), bytes.length];
      for (const [index, from] of edges.slice(0, -1).entries()) socket.write(bytes.subarray(from, edges[index + 1]));
      const closed = once(socket, "close");
      // The server answers the end of the stream with its own, after it has read all of it.
      socket.end();
      await closed;
      expect(uncaught).toEqual([]);
      expect(loggedIn).toBe(0);
    }),
    { numRuns: Math.ceil(FUZZ_RUNS / 8) },
  );
});
