import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { string, uint32 } from "../forwarder/ssh-wire.ts";
import { openShim } from "../test/forwarder/support/shim.ts";
import { execute, login, pause } from "./ssh-session.ts";

/** What hostile clients of a forwarder do, for ever: `attack.ts` runs one in a process of its own. */
export const ATTACKS = ["slow-readers", "windows", "opens", "garbage", "exchanges", "byte-by-byte"] as const;
export type Attack = (typeof ATTACKS)[number];

/** A forwarder, and a VM behind it that the token opens. */
export interface Victim {
  readonly host: string;
  readonly port: number;
  readonly vmId: string;
  readonly token: string;
  /** Called for whatever one attacker does again and again. */
  readonly step: () => void;
}

const SESSIONS = 8;
/** Strangers at once; the forwarder takes a hundred from one address. */
const STRANGERS = 32;
/** Unsent bytes at which a flood waits. */
const AHEAD_BYTES = 262_144;
const SLOW_READ_MS = 20;
const TYPED_BYTES = 1_024;
const TYPED_MS = 100;
/** The beginning of an unencrypted NEWKEYS: what a server says last in an exchange. */
const NEW_KEYS = Buffer.of(0, 0, 0, 12, 10, 21);

/** Each resolves once it has begun. */
export const BEGIN: Readonly<Record<Attack, (victim: Victim) => Promise<void>>> = {
  "slow-readers": (victim) => several(SESSIONS, () => readNow(victim, SLOW_READ_MS)),
  windows: (victim) => several(SESSIONS, () => readNow(victim, 2 ** 30)),
  opens: openChannels,
  garbage: (victim) => several(STRANGERS, (index) => begin(again(victim, () => sendGarbage(victim, index)))),
  exchanges: (victim) => several(STRANGERS, (index) => begin(again(victim, () => exchange(victim, index)))),
  "byte-by-byte": (victim) => several(SESSIONS, () => typeForEver(victim)),
};

async function several(count: number, one: (index: number) => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, index) => one(index)));
}

/** Lets a task that never ends go on by itself. */
async function begin(task: Promise<never>): Promise<void> {
  task.catch(fail);
}

async function again({ step }: Victim, once: () => Promise<void>): Promise<never> {
  for (;;) {
    await once();
    step();
  }
}

function fail(error: unknown): never {
  console.error(error);
  process.exit(1);
}

/** Has the VM send zeros into a window of four gigabytes, and reads a little every so often. */
async function readNow(victim: Victim, everyMs: number): Promise<void> {
  const { host, port, vmId, token } = victim;
  const session = await login(host, port, vmId, token);
  await execute(session, "cat /dev/zero");
  await once(session.socket, "data");
  await begin(
    again(victim, async () => {
      session.socket.pause();
      await pause(everyMs);
      session.socket.resume();
      await once(session.socket, "data");
    }),
  );
}

/** Opens channels as fast as they are taken, and none of the answers is waited for. */
async function openChannels(victim: Victim): Promise<void> {
  const { host, port, vmId, token } = victim;
  const { leg, socket } = await login(host, port, vmId, token);
  let opened = 0;
  await begin(
    again(victim, async () => {
      while (leg.unsentBytes < AHEAD_BYTES) {
        leg.send(Buffer.concat([Buffer.of(90), string("session"), uint32(opened), uint32(0xffffffff), uint32(0xffffffff)]));
        opened += 1;
      }
      await new Promise<void>((resolve) => leg.onceSent(resolve));
      if (socket.destroyed) throw new Error(`the forwarder closed after ${opened} channels`);
    }),
  );
}

/** Bytes that mean nothing: at once, in place of a key exchange, in the middle of one, or under keys that were never agreed on. */
async function sendGarbage(victim: Victim, index: number): Promise<void> {
  const socket = await dial(victim);
  const before = [
    [],
    [Buffer.from("SSH-2.0-garbage\r\n")],
    [Buffer.from("SSH-2.0-garbage\r\n"), packet(kexInit("curve25519-sha256"))],
    [Buffer.from("SSH-2.0-garbage\r\n"), packet(kexInit("curve25519-sha256")), packet(publicHalf(32)), packet(Buffer.of(21))],
  ][index % 4];
  for (const part of before ?? []) socket.write(part);
  socket.write(randomBytes(16_384));
  await closed(socket);
}

/** A key exchange of the sort that costs a server most, to its last packet, and away. */
async function exchange(victim: Victim, index: number): Promise<void> {
  const socket = await dial(victim);
  socket.write("SSH-2.0-exchange\r\n");
  if (index % 2 === 0) {
    socket.write(packet(kexInit("diffie-hellman-group14-sha256", "rsa-sha2-512")));
    const number = randomBytes(256);
    number[0] = 0x01;
    socket.write(packet(Buffer.concat([Buffer.of(30), string(number)])));
  } else {
    socket.write(packet(kexInit("curve25519-sha256")));
    socket.write(packet(publicHalf(32)));
  }
  let answer: Uint8Array = Buffer.alloc(0);
  while (!socket.destroyed && !Buffer.from(answer).includes(NEW_KEYS)) {
    const [chunk]: unknown[] = await Promise.race([once(socket, "data"), once(socket, "close")]);
    if (chunk instanceof Uint8Array) answer = Buffer.concat([answer, chunk]);
  }
  socket.destroy();
  await closed(socket);
}

/** A whole session of whose bytes every one comes alone. */
async function typeForEver(victim: Victim): Promise<void> {
  const { port, vmId, token } = victim;
  const shim = await openShim(port, byteByByte());
  const session = await login("127.0.0.1", shim.port, vmId, token);
  await execute(session, "cat >/dev/null");
  const channel = await session.opened;
  const text = string("x".repeat(TYPED_BYTES));
  await begin(
    again(victim, async () => {
      session.leg.send(Buffer.concat([Buffer.of(94), uint32(channel), text]));
      await pause(TYPED_MS);
    }),
  );
}

function byteByByte(): (chunk: Buffer, to: Socket) => void {
  let sent = Promise.resolve();
  return (chunk, to) => {
    sent = sent.then(async () => {
      for (const byte of chunk) await new Promise((resolve) => to.write(Buffer.of(byte), resolve));
    });
  };
}

async function dial({ host, port }: Victim): Promise<Socket> {
  const socket = connect({ host, port, noDelay: true });
  socket.on("error", () => undefined).resume();
  await Promise.race([once(socket, "connect"), once(socket, "close")]);
  return socket;
}

async function closed(socket: Socket): Promise<void> {
  if (!socket.closed) await once(socket, "close");
}

/** An unencrypted packet (RFC 4253 section 6). */
function packet(payload: Buffer): Buffer {
  const padding = 16 - ((5 + payload.length) % 8);
  return Buffer.concat([uint32(1 + payload.length + padding), Buffer.of(padding), payload, Buffer.alloc(padding)]);
}

function kexInit(kex: string, hostKey = "ssh-ed25519"): Buffer {
  const gcm = "aes128-gcm@openssh.com";
  const lists = [kex, hostKey, gcm, gcm, "", "", "none", "none", "", ""];
  return Buffer.concat([Buffer.of(20), randomBytes(16), ...lists.map((list) => string(list)), Buffer.alloc(5)]);
}

/** The client's first message of an exchange over an elliptic curve (RFC 5656 section 4). */
function publicHalf(bytes: number): Buffer {
  return Buffer.concat([Buffer.of(30), string(randomBytes(bytes))]);
}
