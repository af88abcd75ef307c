import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type ssh2 from "ssh2";
import { afterEach, expect, test } from "vitest";
import { Packet } from "../../forwarder/packet.ts";
import { GcmSealer } from "../../forwarder/ssh2-gcm.ts";
import { rekey } from "../../forwarder/ssh2-handshake.ts";
import { connectPair, type Pair } from "./support/ssh2-pair.ts";

const pairs: Pair[] = [];
afterEach(() => {
  for (const pair of pairs.splice(0)) pair.close();
});

async function open(cipher: ssh2.CipherAlgorithm): Promise<Pair> {
  const pair = await connectPair({ cipher: [cipher] });
  pairs.push(pair);
  return pair;
}

function parts(connection: object): { cipher: object; decipher: object } {
  const protocol = Reflect.get(connection, "_protocol") as { _cipher: object; _decipher: object };
  return { cipher: protocol._cipher, decipher: protocol._decipher };
}

test.each(["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"] as const)(
  "both ends of %s are taken over from ssh2 after each key exchange",
  async (cipher) => {
    const pair = await open(cipher);
    for (const round of [1, 2]) {
      for (const connection of [pair.serverSsh, pair.clientSsh]) {
        expect(GcmSealer.of(parts(connection).cipher)).not.toBeNull();
        expect(Reflect.has(parts(connection).decipher, "_decipherKey")).toBe(false);
      }
      const rekeyed = Promise.all([once(pair.clientSsh, "handshake"), once(pair.serverSsh, "handshake")]);
      rekey(pair.serverSsh);
      await rekeyed;
      // The first packet under new keys is still read by ssh2.
      pair.client.send(Buffer.of(94, round));
      pair.server.send(Buffer.of(94, round));
      await expect.poll(() => [pair.atServer.length, pair.atClient.length]).toEqual([round, round]);
    }
  },
);

test("another cipher is left to ssh2", async () => {
  const pair = await open("aes128-ctr");
  expect(GcmSealer.of(parts(pair.serverSsh).cipher)).toBeNull();
  expect(Reflect.has(parts(pair.serverSsh).decipher, "_decipherInstance")).toBe(true);
});

test.each([
  ["aes128-gcm@openssh.com", "aes128-gcm@openssh.com"],
  ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"],
  ["aes256-ctr", "aes256-gcm@openssh.com"],
] as const)("packets relayed from %s to %s arrive whole and in order, key exchanges on both sides included", async (from, to) => {
  const sender = await open(from);
  const receiver = await open(to);
  sender.onServerPacket = (packet) => receiver.server.relay(packet);
  const payloads = Array.from({ length: 120 }, (_, index) =>
    Buffer.concat([Buffer.of(94, index), randomBytes([1, 40, 5_000, 32_000][index % 4] ?? 1)]),
  );
  for (const [index, payload] of payloads.entries()) {
    sender.client.send(payload);
    if (index === 40) rekey(sender.clientSsh);
    if (index === 80) rekey(receiver.serverSsh);
    if (index % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await expect.poll(() => receiver.atClient.length, { timeout: 10_000 }).toBe(payloads.length);
  expect(receiver.atClient.every((payload, index) => payload.equals(payloads[index] ?? Buffer.alloc(0)))).toBe(true);
});

test("relaying on a leg that is closed does nothing but release the packet", async () => {
  const pair = await open("aes128-gcm@openssh.com");
  pair.clientSsh.destroy();
  await once(pair.serverSsh, "close");
  const plaintext = Buffer.alloc(8_000);
  plaintext[0] = 4;
  expect(() => pair.server.relay(Packet.ofPlaintext([plaintext]))).not.toThrow();
  expect(plaintext.length).toBe(0);
});
