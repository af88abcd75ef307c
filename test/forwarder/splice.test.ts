import fc from "fast-check";
import { expect, test } from "vitest";
import { Packet } from "../../forwarder/packet.ts";
import { Splice } from "../../forwarder/splice.ts";
import { MemoryLeg } from "./support/memory-leg.ts";

/** A waiting packet counts for 512 bytes beside its own. */
const LIMITS = { wakeQueueBytes: 612, highWaterBytes: 100 };
const packet = (payload: Uint8Array) => Packet.ofPayload(payload);

function open(): { splice: Splice; client: MemoryLeg; target: MemoryLeg } {
  const client = new MemoryLeg();
  return { splice: new Splice(client, LIMITS), client, target: new MemoryLeg() };
}

test("whatever is sent before and after the VM is there arrives whole and in order", () => {
  const payloads = fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }));
  fc.assert(
    fc.property(payloads, payloads, (before, after) => {
      const { splice, target } = open();
      for (const payload of before) splice.fromClient(packet(payload));
      splice.join(target);
      for (const payload of after) splice.fromClient(packet(payload));
      expect(target.sent).toEqual([...before, ...after].map((payload) => Buffer.from(payload)));
    }),
  );
});

test("what waits is a copy: the decipher may use its buffer again", () => {
  const { splice, target } = open();
  const reused = Buffer.of(94, 1, 2, 3);
  splice.fromClient(packet(reused));
  reused.fill(0);
  splice.join(target);
  expect(target.sent).toEqual([Buffer.of(94, 1, 2, 3)]);
});

test("a client that sends more than the queue holds is paused until the VM has taken it", () => {
  const { splice, client, target } = open();
  splice.fromClient(packet(Buffer.alloc(100, 94)));
  expect(client.paused).toBe(false);
  splice.fromClient(packet(Buffer.of(94)));
  expect(client.paused).toBe(true);
  splice.join(target);
  expect(client.paused).toBe(true);
  target.drain();
  expect(client.paused).toBe(false);
});

test("a queue of small packets is bounded by what it takes, not by what it carries", () => {
  const client = new MemoryLeg();
  const splice = new Splice(client, { wakeQueueBytes: 10_000, highWaterBytes: 100 });
  let sent = 0;
  for (; !client.paused; sent += 1) splice.fromClient(packet(Buffer.of(94)));
  expect(sent).toBeLessThan(21);
});

test("a side that sends faster than the other takes is paused, and only it", () => {
  const { splice, client, target } = open();
  splice.join(target);
  target.drain();
  splice.fromTarget(packet(Buffer.alloc(101, 94)));
  expect([target.paused, client.paused]).toEqual([true, false]);
  client.drain();
  expect(target.paused).toBe(false);
  splice.fromClient(packet(Buffer.alloc(101, 94)));
  expect([target.paused, client.paused]).toEqual([false, true]);
  target.drain();
  expect(client.paused).toBe(false);
});

test("the VM's announcement of its host keys is dropped, and every other global request passes", () => {
  const { splice, client, target } = open();
  splice.join(target);
  splice.fromTarget(packet(globalRequest("hostkeys-00@openssh.com")));
  expect(client.sent).toEqual([]);
  splice.fromTarget(packet(globalRequest("keepalive@openssh.com")));
  expect(client.sent).toEqual([globalRequest("keepalive@openssh.com")]);
});

test("a client's own request of that name passes: only the VM's is about host keys", () => {
  const { splice, target } = open();
  splice.join(target);
  splice.fromClient(packet(globalRequest("hostkeys-00@openssh.com")));
  expect(target.sent).toHaveLength(1);
});

test("when the VM does not come, channels that wait and channels opened later are refused, and the client can leave", () => {
  const { splice, client } = open();
  splice.fromClient(packet(Buffer.concat([channelOpen("session", 4), Buffer.alloc(120)])));
  expect(client.paused).toBe(true);
  splice.refuse("no VM");
  client.drain();
  expect(client.paused).toBe(false);
  expect(client.sent.map((payload) => payload[0])).toEqual([91, 95, 98, 96, 97]);
  splice.fromClient(packet(channelOpen("direct-tcpip", 5)));
  expect(client.sent.at(-1)?.[0]).toBe(92);
  splice.fromClient(packet(Buffer.of(98, 0, 0, 0, 0)));
  expect(client.sent).toHaveLength(6);
});

function globalRequest(name: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(name.length);
  return Buffer.concat([Buffer.of(80), length, Buffer.from(name), Buffer.of(0)]);
}

function channelOpen(type: string, sender: number): Buffer {
  const numbers = Buffer.alloc(16);
  numbers.writeUInt32BE(type.length);
  numbers.writeUInt32BE(sender, 4);
  return Buffer.concat([Buffer.of(90), numbers.subarray(0, 4), Buffer.from(type), numbers.subarray(4)]);
}

test.each(["there", "refused"])(
  "a queue of thousands is passed on in slices once the VM is %s, in order and with what comes meanwhile behind it",
  async (how) => {
    const client = new MemoryLeg();
    const target = new MemoryLeg();
    const splice = new Splice(client, { wakeQueueBytes: 10_000_000, highWaterBytes: 10_000_000 });
    const opening = (number: number) =>
      Buffer.concat([Buffer.of(90, 0, 0, 0, 1, 120, 0, 0, number >> 8, number & 0xff), Buffer.alloc(8)]);
    const openings = Array.from({ length: 2_000 }, (_, number) => opening(number));
    for (const payload of openings.slice(0, -1)) splice.fromClient(packet(payload));
    if (how === "there") splice.join(target);
    else splice.refuse("no VM");
    const passed = () => (how === "there" ? target : client).sent;
    expect(passed().length).toBeLessThan(100);
    for (const payload of openings.slice(-1)) splice.fromClient(packet(payload));
    await expect.poll(() => passed().length).toBe(openings.length);
    const numbers = passed().map((payload) => (how === "there" ? payload.readUInt32BE(6) : payload.readUInt32BE(1)));
    expect(numbers).toEqual(openings.map((_, number) => number));
  },
);

test("who does not take the refusals of his channels is not heard any more until he has", () => {
  const { splice, client } = open();
  splice.refuse("no VM");
  client.drain();
  for (let opened = 0; opened < 5; opened += 1) {
    splice.fromClient(packet(Buffer.concat([Buffer.of(90, 0, 0, 0, 1, 120), Buffer.alloc(12)])));
  }
  expect(client.paused).toBe(true);
  client.drain();
  expect(client.paused).toBe(false);
});
