import { createHash, createPublicKey, verify } from "node:crypto";
import ssh2 from "ssh2";
import { afterEach, expect, test } from "vitest";
import { beginExchange, LARGE_GROUPS } from "../../forwarder/large-groups.ts";
import { attachLeg, socketOf } from "../../forwarder/packet-leg.ts";
import { readStrings, string } from "../../forwarder/ssh-wire.ts";
import { rekey } from "../../forwarder/ssh2-handshake.ts";
import { CLIENT_LINE, exchangeInit, KEX_REPLY, kexinit, packet, rawConnection, readUpTo } from "./support/raw-kex.ts";
import { connectPair } from "./support/ssh2-pair.ts";

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

const rsaKey = ssh2.utils.generateKeyPairSync("rsa", { bits: 2_048 });
const GROUP_14 = { type: "dh", group: "modp14" } as const;

/** Server-side, with whatever signs in the event loop noted. */
async function exchange(kex: string, hostKey: string, ...packets: Buffer[]) {
  const signedInLoop: string[] = [];
  const { socket, close } = await rawConnection(rsaKey.private, (connection) => {
    const key = Reflect.get(Reflect.get(connection, "_protocol"), "_hostKeys")["rsa-sha2-512"];
    const sign = key.sign;
    key.sign = (data: Buffer, algorithm: string) => {
      signedInLoop.push(algorithm);
      return sign.call(key, data, algorithm);
    };
    const server = socketOf(connection);
    if (server !== null) attachLeg(connection, server, () => undefined);
  });
  closing.push(close);
  const sent = kexinit(kex, hostKey, false);
  socket.write(Buffer.concat([Buffer.from(`${CLIENT_LINE}\r\n`), packet(sent), ...packets.map(packet)]));
  const { line, payloads } = await readUpTo(socket, KEX_REPLY);
  const of = (type: number) => payloads.find((payload) => payload[0] === type) ?? Buffer.alloc(0);
  return { sent, line, kexinit: of(20), reply: of(KEX_REPLY), disconnect: of(1), signedInLoop };
}

test.each([
  ["rsa-sha2-512", "sha512"],
  ["rsa-sha2-256", "sha256"],
])("a stranger's exchange of group 14 with %s is proven by a signature that the event loop did not make", async (name, hash) => {
  const half = await beginExchange(GROUP_14);
  const seen = await exchange("diffie-hellman-group14-sha256", name, exchangeInit(half.publicBytes));
  const [blob, theirs, signature] = readStrings(seen.reply, 1) ?? [];
  if (blob === undefined || theirs === undefined || signature === undefined) throw new Error("no reply");
  const secret = await half.secretWith(theirs);
  const ours =
    half.publicBytes[0] !== undefined && half.publicBytes[0] >= 0x80
      ? Buffer.concat([Buffer.of(0), half.publicBytes])
      : half.publicBytes;
  const bound = [CLIENT_LINE, seen.line, seen.sent, seen.kexinit, blob, ours, theirs, secret ?? Buffer.alloc(0)];
  const digest = createHash("sha256")
    .update(Buffer.concat(bound.map((part) => string(part))))
    .digest();
  const [algorithm, value] = readStrings(signature, 0) ?? [];
  expect(algorithm?.toString()).toBe(name);
  const parsed = ssh2.utils.parseKey(rsaKey.public);
  if (parsed instanceof Error || value === undefined) throw new Error("no key");
  expect(verify(hash, digest, createPublicKey(parsed.getPublicPEM()), value)).toBe(true);
  expect(seen.signedInLoop).toEqual([]);
});

test.each([
  ["nothing", Buffer.alloc(0)],
  ["zero", Buffer.of(0)],
  ["one", Buffer.of(1)],
  ["a number of 30,000 bytes", Buffer.alloc(30_000, 0x7f)],
])("a stranger who offers %s for a half is told that the exchange failed, and gets no signature", async (_what, half) => {
  const seen = await exchange("diffie-hellman-group14-sha256", "rsa-sha2-512", exchangeInit(half));
  expect(seen.reply).toHaveLength(0);
  expect(seen.disconnect.readUInt32BE(1)).toBe(3);
  expect(seen.signedInLoop).toEqual([]);
});

test.each([
  ["another message than the first half", Buffer.of(31)],
  ["a half that is cut short", Buffer.of(30, 0, 0, 1, 0)],
])("%s ends a stranger's exchange", async (_what, payload) => {
  const seen = await exchange("diffie-hellman-group14-sha256", "rsa-sha2-512", payload);
  expect(seen.disconnect.readUInt32BE(1)).toBe(3);
});

test.each([...LARGE_GROUPS.keys()] as ssh2.KexAlgorithm[])("sessions go through exchanges by %s from either side", async (kex) => {
  const pair = await connectPair({ kex: [kex] });
  closing.push(pair.close);
  for (const ssh of [pair.serverSsh, pair.clientSsh]) {
    const ends = [pair.serverSsh, pair.clientSsh].map(
      (end) => new Promise<void>((resolve) => end.once("handshake", () => resolve())),
    );
    rekey(ssh);
    pair.client.send(Buffer.from("\x5eup"));
    pair.server.send(Buffer.from("\x5edown"));
    await Promise.all(ends);
  }
  const drained = [pair.client, pair.server].map((leg) => new Promise<void>((resolve) => leg.onceSent(resolve)));
  await Promise.all(drained);
  await expect.poll(() => [pair.atServer.length, pair.atClient.length]).toEqual([2, 2]);
});
