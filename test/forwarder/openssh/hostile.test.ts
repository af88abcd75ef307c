import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import ssh2 from "ssh2";
import { afterEach, beforeEach, expect, test } from "vitest";
import { attachLeg, type PacketLeg, socketOf } from "../../../forwarder/packet-leg.ts";
import { string, uint32 } from "../../../forwarder/ssh-wire.ts";
import { run, until } from "../support/command.ts";
import { openShim, type Shim } from "../support/shim.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
let shims: Shim[];
beforeEach(async () => {
  world = await openWorld();
  shims = [];
});
afterEach(async () => {
  for (const shim of shims) shim.close();
  await world.close();
});

async function shim(forward: (chunk: Buffer, to: Socket) => void): Promise<number> {
  const opened = await openShim(world.port, forward);
  shims.push(opened);
  return opened.port;
}

function sshThrough(port: number, command: string, input = ""): ReturnType<typeof run> {
  const user = `${world.vmId}:${world.token}`;
  return run("ssh", [...world.options(), "-p", String(port), "-l", user, "127.0.0.1", command], { input });
}

/** A neighbour's session still works. */
async function othersGoOn(): Promise<void> {
  expect((await world.exec("echo fine")).stdout.toString()).toBe("fine\n");
}

function closed(socket: Socket): Promise<void> {
  return until("the socket is closed", () => socket.destroyed);
}

function raw(): Socket {
  const socket = connect({ port: world.port, host: "127.0.0.1", noDelay: true });
  socket.on("error", () => undefined).resume();
  return socket;
}

/** An unencrypted packet (RFC 4253 section 6). */
function packet(payload: Buffer): Buffer {
  const padding = 16 - ((5 + payload.length) % 8);
  return Buffer.concat([uint32(1 + payload.length + padding), Buffer.of(padding), payload, Buffer.alloc(padding)]);
}

function kexInit(...kex: string[]): Buffer {
  const lists = [kex.join(","), "ssh-ed25519", "aes128-gcm@openssh.com", "aes128-gcm@openssh.com", "", "", "none", "none", "", ""];
  return Buffer.concat([Buffer.of(20), randomBytes(16), ...lists.map((list) => string(list)), Buffer.alloc(5)]);
}

test("a client whose every byte comes alone is served like any other", async () => {
  const port = await shim((chunk, to) => {
    for (const byte of chunk) to.write(Buffer.of(byte));
  });
  const result = await sshThrough(port, "cat", "x".repeat(20_000));
  expect(result.code).toBe(0);
  expect(result.stdout.length).toBe(20_000);
});

test.each([2, 3, 4, 7])("an identification in %d parts is read whole", async (parts) => {
  const socket = raw();
  let answer = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    answer = Buffer.concat([answer, chunk]);
  });
  await until("the server's identification came", () => answer.includes("\n"));
  const line = Buffer.from("SSH-2.0-parts_of_it\r\n");
  const size = Math.ceil(line.length / parts);
  for (let at = 0; at < line.length; at += size) {
    socket.write(line.subarray(at, at + size));
    // So that TCP has no reason to join them.
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until("the server's KEXINIT came", () => answer.length > 100);
  socket.destroy();
});

test("garbage instead of SSH is turned away", async () => {
  for (const garbage of [Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), randomBytes(10_000), Buffer.alloc(10_000)]) {
    const socket = raw();
    socket.write(garbage);
    await closed(socket);
  }
  await othersGoOn();
});

test("strangers have only so many lines written about them, and who logs in has his", async () => {
  await world.close();
  world = await openWorld({ env: { POSTERN_SSH_STRANGER_LOG_LINES: "2" } });
  for (let stranger = 0; stranger < 30; stranger += 1) {
    const socket = raw();
    socket.write(stranger % 2 === 0 ? "GET / HTTP/1.1\r\n\r\n" : "SSH-2.0-x\r\nno packet, which is why this ends");
    await closed(socket);
  }
  expect(world.log.length).toBeLessThan(30);
  await othersGoOn();
  expect(world.log.join("")).toContain('"message":"logged in"');
});

test.each([
  ["random bytes", randomBytes(4_096)],
  ["a packet of two gigabytes", Buffer.concat([uint32(0x7fffffff), Buffer.alloc(100)])],
  ["an empty packet", Buffer.concat([uint32(0), Buffer.alloc(100)])],
  ["a key exchange without algorithms", packet(Buffer.concat([Buffer.of(20), randomBytes(16), Buffer.alloc(45)]))],
  ["a truncated key exchange", packet(Buffer.of(20, 1, 2, 3))],
  ["a login before key exchange", packet(Buffer.concat([Buffer.of(50), string("x")]))],
  ["a channel before key exchange", packet(Buffer.concat([Buffer.of(90), string("session"), Buffer.alloc(12)]))],
])("%s during key exchange ends the connection, and no other", async (_what, bytes) => {
  const socket = raw();
  socket.write("SSH-2.0-hostile\r\n");
  socket.write(bytes);
  await closed(socket);
  await othersGoOn();
});

test("a byte changed on the way after key exchange ends the connection, and no other", async () => {
  let seen = 0;
  const port = await shim((chunk, to) => {
    const before = seen;
    seen += chunk.length;
    const broken = Buffer.from(chunk);
    const at = 8_000 - before;
    if (at >= 0 && at < broken.length) broken[at] = (broken[at] ?? 0) ^ 1;
    to.write(broken);
  });
  expect((await sshThrough(port, "cat", "x".repeat(100_000))).code).toBe(255);
  await othersGoOn();
});

test("a client that offers strict key exchange and sends anything before it is refused (Terrapin)", async () => {
  const ignore = packet(Buffer.concat([Buffer.of(2), string("ignore")]));
  const strict = raw();
  strict.write("SSH-2.0-strict\r\n");
  strict.write(ignore);
  strict.write(packet(kexInit("curve25519-sha256", "kex-strict-c-v00@openssh.com")));
  await closed(strict);
  const during = raw();
  during.write("SSH-2.0-strict\r\n");
  during.write(packet(kexInit("curve25519-sha256", "kex-strict-c-v00@openssh.com")));
  during.write(ignore);
  await closed(during);
});

test("strict key exchange is offered, and OpenSSH takes it", async () => {
  const result = await run("ssh", ["-vvv", ...world.ssh(`${world.vmId}:${world.token}`, "true")]);
  expect(result.stderr).toContain("kex-strict-s-v00@openssh.com");
  expect(result.stderr).toContain("will use strict KEX ordering");
});

/** A logged-in client of ours that says what it likes. */
async function rawClient(
  onPacket: (payload: Uint8Array) => void,
): Promise<{ leg: PacketLeg; client: ssh2.Client; socket: Socket }> {
  const client = new ssh2.Client();
  client.on("error", () => undefined);
  const socket = connect({ port: world.port, host: "127.0.0.1" });
  const ready = once(client, "ready");
  client.connect({ sock: socket, username: `${world.vmId}:${world.token}`, authHandler: ["none"] });
  const leg = attachLeg(client, socket, ({ payload }) => onPacket(payload));
  await ready;
  expect(socketOf(client)).toBe(socket);
  return { leg, client, socket };
}

function openChannel(number: number, window = 0xffffffff): Buffer {
  return Buffer.concat([Buffer.of(90), string("session"), uint32(number), uint32(window), uint32(0xffffffff)]);
}

test("key exchanges that take a millisecond are offered to strangers, and no larger ones", async () => {
  const by = (kex: string) => run("ssh", world.ssh(`${world.vmId}:${world.token}`, "-o", `KexAlgorithms=${kex}`, "true"));
  for (const kex of ["curve25519-sha256", "ecdh-sha2-nistp256", "diffie-hellman-group14-sha256"]) {
    expect(await by(kex)).toMatchObject({ code: 0 });
  }
  const { code, stderr } = await by(
    "diffie-hellman-group18-sha512,diffie-hellman-group16-sha512,ecdh-sha2-nistp521,ecdh-sha2-nistp384",
  );
  expect(code).toBe(255);
  expect(stderr.toString()).toContain("no matching key exchange method");
});

test("a hundred thousand channels are asked for, each is answered, and no other session waits for them", async () => {
  let answers = 0;
  const { leg, socket } = await rawClient((payload) => {
    if (payload[0] === 91 || payload[0] === 92) answers += 1;
  });
  for (let number = 0; number < 100_000; number += 1) {
    leg.send(openChannel(number));
    if (number % 5_000 === 0) await new Promise<void>((resolve) => leg.onceSent(resolve));
    if (number === 50_000) await othersGoOn();
  }
  await until("all were answered", () => answers === 100_000, 80_000);
  socket.destroy();
  await othersGoOn();
}, 90_000);

test("what a client sends while the VM sleeps fills a bounded queue, then the client has to wait, and nothing is lost", async () => {
  const waking = Promise.withResolvers<void>();
  world.host.waking = waking.promise;
  let confirmed = false;
  const { leg, socket } = await rawClient((payload) => {
    if (payload[0] === 91) confirmed = true;
  });
  const junk = Buffer.concat([Buffer.of(80), string("nobody@knows"), Buffer.of(0), Buffer.alloc(30_000)]);
  const total = 1_000;
  let sent = 0;
  const sending = (async () => {
    for (; sent < total; sent += 1) {
      leg.send(junk);
      await new Promise<void>((resolve) => leg.onceSent(resolve));
    }
    leg.send(openChannel(0));
  })();
  await until("the client has to wait", async () => {
    const before = sent;
    await new Promise((resolve) => setTimeout(resolve, 200));
    return sent > 0 && sent === before;
  });
  // Of 30 MB the queue takes one and the kernel a few.
  expect(sent).toBeLessThan(total / 2);
  expect(confirmed).toBe(false);
  waking.resolve();
  await sending;
  await until("the last message arrived", () => confirmed);
  socket.destroy();
});

test("a client with a window of four gigabytes that stops reading stops the VM, and no other session", async () => {
  const { leg, socket } = await rawClient((payload) => {
    if (payload[0] !== 91) return;
    const channel = Buffer.from(payload).readUInt32BE(5);
    const command = string("cat /dev/zero");
    leg.send(Buffer.concat([Buffer.of(98), uint32(channel), string("exec"), Buffer.of(0), command]));
  });
  leg.send(openChannel(0));
  await until("output flows", () => socket.bytesRead > 1_000_000);
  socket.pause();
  await until("the VM is stopped", async () => {
    const before = world.host.bytesFromVm;
    await new Promise((resolve) => setTimeout(resolve, 200));
    return world.host.bytesFromVm === before;
  });
  expect(world.host.bytesFromVm - socket.bytesRead).toBeLessThan(24 * 1024 * 1024);
  await othersGoOn();
  socket.destroy();
  await until("its tunnel is gone", () => world.host.openTunnels === 0);
});
