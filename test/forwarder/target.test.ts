import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import ssh2 from "ssh2";
import { afterEach, expect, test } from "vitest";
import { attachLeg, socketOf } from "../../forwarder/packet-leg.ts";
import { loginToVm } from "../../forwarder/target.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";

const HOST_KEY = generateSshKeyPair(platformRandomBytes);
const undo: (() => void)[] = [];
afterEach(() => {
  for (const step of undo.splice(0)) step();
});

/** An sshd that admits one user by any key, or nobody; answers a connection to it and what was tried there. */
async function vm(
  admits: boolean,
  prepare: (connection: ssh2.Connection) => void = () => undefined,
): Promise<{ socket: Socket; tried: string[] }> {
  const tried: string[] = [];
  const server = new ssh2.Server({ hostKeys: [HOST_KEY.privateKey] }, (connection) => {
    connection.on("error", () => undefined);
    prepare(connection);
    connection.on("authentication", (context) => {
      tried.push(`${context.method} ${context.username}`);
      if (admits && context.method === "publickey") context.accept();
      else context.reject(["publickey", "password"]);
    });
  });
  const listener = createServer((socket) => server.injectSocket(socket));
  return { socket: await connectTo(listener), tried };
}

async function connectTo(listener: Server): Promise<Socket> {
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const socket = connect((listener.address() as AddressInfo).port, "127.0.0.1");
  undo.push(() => {
    socket.destroy();
    listener.close();
  });
  return socket;
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

test.each([
  ["lines", "welcome\r\n".repeat(1_000)],
  ["a line", "x".repeat(10_000)],
  ["packets", "SSH-2.0-x\r\n"],
])("a VM that sends %s without end in place of an identification and keys is left soon", async (_what, text) => {
  const ignore = Buffer.concat([Buffer.of(0, 0, 0, 12, 4, 2, 0, 0, 0, 2), Buffer.alloc(6)]);
  const listener = createServer((vm) => {
    vm.on("error", () => undefined);
    vm.write(text);
    const more = text.startsWith("SSH-") ? Buffer.concat(Array.from({ length: 1_000 }, () => ignore)) : text;
    const goOn = (error?: Error | null) => {
      if (error === undefined || error === null) vm.write(more, goOn);
    };
    goOn();
  });
  const socket = await connectTo(listener);
  expect(await logIn(socket, HOST_KEY.publicKey)).toMatchObject({ ok: false, failure: { kind: "host-unavailable" } });
  expect(socket.bytesRead).toBeLessThan(400_000);
});

test("a VM that says over and over that the login is done has entered once", async () => {
  const said = Promise.withResolvers<void>();
  const { socket } = await vm(true, (connection) => {
    const server = socketOf(connection);
    if (server === null) throw new Error("no socket");
    const leg = attachLeg(connection, server, () => undefined);
    connection.on("ready", () => {
      for (let times = 0; times < 100; times += 1) leg.send(Buffer.of(52));
      leg.send(Buffer.of(94));
      said.resolve();
    });
  });
  let entered = 0;
  const heard = Promise.withResolvers<void>();
  await loginToVm({
    tunnel: { socket, hostKey: HOST_KEY.publicKey },
    key: generateSshKeyPair(platformRandomBytes),
    linuxUser: "alice",
    loginTimeoutMs: 5_000,
    onReady: () => {
      entered += 1;
    },
    onPacket: () => heard.resolve(),
    onClose: () => undefined,
  });
  await said.promise;
  await heard.promise;
  expect(entered).toBe(1);
});
