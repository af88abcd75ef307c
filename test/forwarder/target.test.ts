import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import ssh2 from "ssh2";
import { afterEach, expect, test } from "vitest";
import { loginToVm } from "../../forwarder/target.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";

const HOST_KEY = generateSshKeyPair(platformRandomBytes);
const undo: (() => void)[] = [];
afterEach(() => {
  for (const step of undo.splice(0)) step();
});

/** An sshd that admits one user by any key, or nobody; answers a connection to it and what was tried there. */
async function vm(admits: boolean): Promise<{ socket: Socket; tried: string[] }> {
  const tried: string[] = [];
  const server = new ssh2.Server({ hostKeys: [HOST_KEY.privateKey] }, (connection) => {
    connection.on("error", () => undefined);
    connection.on("authentication", (context) => {
      tried.push(`${context.method} ${context.username}`);
      if (admits && context.method === "publickey") context.accept();
      else context.reject(["publickey", "password"]);
    });
  });
  const listener = createServer((socket) => server.injectSocket(socket));
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const socket = connect((listener.address() as AddressInfo).port, "127.0.0.1");
  undo.push(() => {
    socket.destroy();
    listener.close();
  });
  return { socket, tried };
}

function logIn(socket: Socket, hostKey: string, closed: (reason: string | null) => void = () => undefined) {
  return loginToVm({
    tunnel: { socket, hostKey },
    key: generateSshKeyPair(platformRandomBytes),
    linuxUser: "alice",
    loginTimeoutMs: 5_000,
    onReady: () => undefined,
    onPacket: () => undefined,
    onClose: closed,
  });
}

test("the VM is entered as the Linux user, by the connection's own key alone", async () => {
  const { socket, tried } = await vm(true);
  expect((await logIn(socket, HOST_KEY.publicKey)).ok).toBe(true);
  expect(new Set(tried)).toEqual(new Set(["publickey alice"]));
});

test("a VM that refuses the key ends the connection at once, says so, and is shown nothing else", async () => {
  const { socket, tried } = await vm(false);
  const result = await logIn(socket, HOST_KEY.publicKey);
  expect(result).toMatchObject({ ok: false, failure: { kind: "host-unavailable" } });
  expect(result.ok || result.failure.message).toContain("did not let alice in");
  expect(tried).toEqual(["publickey alice"]);
  expect(socket.destroyed).toBe(true);
});

test("another host key than the pinned one is refused before anything is shown to it", async () => {
  const { socket, tried } = await vm(true);
  const result = await logIn(socket, generateSshKeyPair(platformRandomBytes).publicKey);
  expect(result.ok || result.failure.message).toContain("another host key");
  expect(tried).toEqual([]);
});

test.each(["", "ssh-ed25519", "ssh-dss AAAA", "ssh-ed25519 AAAA"])("a host key line %j is refused", async (line) => {
  const { socket } = await vm(true);
  expect(await logIn(socket, line)).toMatchObject({ ok: false, failure: { kind: "internal" } });
});

test("a VM that goes after the login is told of", async () => {
  const { socket } = await vm(true);
  const gone = Promise.withResolvers<void>();
  await logIn(socket, HOST_KEY.publicKey, () => gone.resolve());
  socket.destroy();
  await gone.promise;
});
