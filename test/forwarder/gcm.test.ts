import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type GcmKeys, GcmOpener, LARGE_PACKET_BYTES, sealPacket, USUAL_PACKET_BYTES } from "../../forwarder/gcm.ts";
import { Packet } from "../../forwarder/packet.ts";

function keys(iv: Buffer = Buffer.alloc(12)): GcmKeys {
  return { cipher: "aes-128-gcm", key: Buffer.alloc(16, 7), iv: Buffer.from(iv) };
}

/** Padding length, payload and padding, in whole blocks. */
function plaintextOf(payload: Uint8Array): Buffer {
  const padding = 4 + ((16 - ((5 + payload.length) % 16)) % 16);
  return Buffer.concat([Buffer.of(padding), payload, Buffer.alloc(padding)]);
}

function seal(writer: GcmKeys, pieces: readonly Uint8Array[]): Buffer {
  const written: Uint8Array[] = [];
  sealPacket(writer, pieces, (bytes) => written.push(bytes));
  return Buffer.concat(written);
}

/** Opens a stream that is cut into pieces of these sizes, again and again. */
function openAll(stream: Buffer, sizes: readonly number[], reader = keys()): Packet[] {
  const packets: Packet[] = [];
  const opener = new GcmOpener(reader, (packet) => {
    packets.push(packet);
    return undefined;
  });
  for (let at = 0, turn = 0; at < stream.length; turn += 1) {
    const end = Math.min(stream.length, at + (sizes[turn % sizes.length] ?? 1));
    opener.decrypt(stream.subarray(at, end), 0, end - at);
    at = end;
  }
  return packets;
}

const payloads = fc.array(fc.uint8Array({ minLength: 1, maxLength: 3_000 }), { minLength: 1, maxLength: 6 });
const cuts = fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1, maxLength: 8 });

test("whatever is sealed, and wherever the network cuts it, is opened as it was", () => {
  fc.assert(
    fc.property(payloads, cuts, (sent, sizes) => {
      const writer = keys();
      const stream = Buffer.concat(sent.map((payload) => seal(writer, [plaintextOf(payload)])));
      const opened = openAll(stream, sizes);
      expect(opened.map((packet) => Buffer.from(packet.payload))).toEqual(sent.map((payload) => Buffer.from(payload)));
      expect(opened.map((packet) => [packet.type, packet.length])).toEqual(sent.map((payload) => [payload[0], payload.length]));
    }),
    { numRuns: 200 },
  );
});

test("a packet in pieces is sealed as the same packet in one", () => {
  const whole = plaintextOf(randomBytes(2_000));
  expect(seal(keys(), [whole.subarray(0, 1), whole.subarray(1, 700), whole.subarray(700)])).toEqual(seal(keys(), [whole]));
});

test("who sends a packet byte by byte costs no more than its bytes: the pieces are joined", () => {
  const [packet] = openAll(seal(keys(), [plaintextOf(randomBytes(30_000))]), [1]);
  expect(packet?.plaintext?.length).toBeLessThanOrEqual(5);
});

test("a bit changed anywhere is refused", () => {
  const stream = seal(keys(), [plaintextOf(Buffer.alloc(100, 94))]);
  for (let at = 0; at < stream.length; at += 1) {
    const changed = Buffer.from(stream);
    changed[at] = (changed[at] ?? 0) ^ 1;
    // A changed length may ask for more than was sent; then nothing is handed over.
    const opened = () => expect(openAll(changed, [changed.length])).toEqual([]);
    if (at >= 4) expect(opened).toThrow();
    else expect(opened).not.toThrow(/payload/);
  }
});

test.each([0, 15, 17, 40_000, 0x7fffffff, 0xfffffff0])(
  "a length of %d is refused before anything is allocated for it",
  (length) => {
    const bytes = Buffer.alloc(100);
    bytes.writeUInt32BE(length);
    expect(() => openAll(bytes, [100])).toThrow("Bad packet length");
  },
);

test.each([0, 3, 255])("a padding length of %d in a packet of one block is refused", (padding) => {
  const plaintext = Buffer.alloc(16);
  plaintext[0] = padding;
  expect(() => openAll(seal(keys(), [plaintext]), [100])).toThrow("Bad padding length");
});

test("the packet counter carries over its bytes and leaves the fixed part alone", () => {
  const iv = Buffer.from("aabbccdd00000000fffffffe", "hex");
  const writer = keys(iv);
  const stream = Buffer.concat([1, 2, 3].map((n) => seal(writer, [plaintextOf(Buffer.of(94, n))])));
  expect(writer.iv.toString("hex")).toBe("aabbccdd0000000100000001");
  expect(openAll(stream, [7], keys(iv)).map((packet) => packet.payload[1])).toEqual([1, 2, 3]);
});

test("a packet as long as OpenSSH's longest is taken once the bounds allow it, and no longer one ever", () => {
  const sealed = (bytes: number) => seal(keys(), [plaintextOf(Buffer.alloc(bytes, 94))]);
  const open = (stream: Buffer, maxPacketBytes: number) =>
    new GcmOpener(keys(), () => undefined, { maxPacketBytes }).decrypt(stream, 0, stream.length);
  expect(() => open(sealed(40_000), USUAL_PACKET_BYTES)).toThrow("Bad packet length");
  expect(open(sealed(40_000), LARGE_PACKET_BYTES)).toBe(undefined);
  expect(open(sealed(262_100), LARGE_PACKET_BYTES)).toBe(undefined);
  expect(() => open(sealed(262_200), LARGE_PACKET_BYTES)).toThrow("Bad packet length");
});

test("the opener stops behind a packet when it is told to", () => {
  const writer = keys();
  const first = seal(writer, [plaintextOf(Buffer.of(20))]);
  const stream = Buffer.concat([first, seal(writer, [plaintextOf(Buffer.of(94))])]);
  expect(new GcmOpener(keys(), () => false).decrypt(stream, 0, stream.length)).toBe(first.length);
});

test("a released packet's memory is given back at once, and a kept packet's is its own", () => {
  const plaintext = plaintextOf(Buffer.alloc(20_000, 94));
  const packet = Packet.ofPlaintext([plaintext]);
  expect(packet.keep()).toBe(packet);
  packet.release();
  expect(plaintext.length).toBe(0);
  const reused = Buffer.of(94, 1);
  const kept = Packet.ofPayload(reused).keep();
  reused.fill(0);
  expect(Buffer.from(kept.payload)).toEqual(Buffer.of(94, 1));
});

test("memory that is a part of something else is left alone", () => {
  const pool = Buffer.alloc(20_000, 1);
  Packet.ofPlaintext([pool.subarray(0, 16_000).fill(4, 0, 1)]).release();
  expect(pool.length).toBe(20_000);
});
