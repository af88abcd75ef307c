import fc from "fast-check";
import { expect, test } from "vitest";
import {
  bannerMessage,
  boundPacketSize,
  debugMessage,
  disconnectMessage,
  globalRequestName,
  isConnectionMessage,
  refuseChannel,
  wantsGlobalReply,
} from "../../forwarder/ssh-messages.ts";
import { string, uint32 } from "../../forwarder/ssh-wire.ts";

test("only types 80 to 127 are connection messages", () => {
  const types = Array.from({ length: 256 }, (_, type) => type).filter(isConnectionMessage);
  expect([types[0], types.at(-1), types.length]).toEqual([80, 127, 48]);
});

test("whatever bytes a client or VM sends, looking into them neither throws nor reads beyond them", () => {
  const payload = fc.tuple(fc.constantFrom(80, 90, 94), fc.uint8Array()).map(([type, rest]) => Buffer.of(type, ...rest));
  fc.assert(
    fc.property(payload, (bytes) => {
      const name = globalRequestName(bytes);
      expect(name === null || name.length <= bytes.length - 5).toBe(true);
      const answers = refuseChannel(bytes, "why", 0);
      expect([0, 1, 5]).toContain(answers.length);
    }),
  );
});

test("a packet size beyond 32 KiB is bounded in an opening and a confirmation, and nothing else is touched", () => {
  const payload = fc.tuple(fc.constantFrom(80, 90, 91, 94, 98), fc.uint8Array()).map(([type, rest]) => Buffer.of(type, ...rest));
  fc.assert(fc.property(payload, (bytes) => boundPacketSize(bytes).length === bytes.length));
  const confirmation = (size: number) => Buffer.concat([Buffer.of(91), Buffer.alloc(12), uint32(size), Buffer.of(7)]);
  expect(boundPacketSize(confirmation(0xffffffff))).toEqual(confirmation(32_768));
  expect(boundPacketSize(confirmation(1_024))).toEqual(confirmation(1_024));
  const opening = (size: number) => Buffer.concat([Buffer.of(90), string("x11"), Buffer.alloc(8), uint32(size), Buffer.of(7)]);
  expect(boundPacketSize(opening(64_000))).toEqual(opening(32_768));
  const data = Buffer.alloc(40, 0xff);
  data[0] = 94;
  expect(boundPacketSize(data)).toBe(data);
});

test("whether a global request wants a reply is read from the byte behind its name", () => {
  const request = (wants: number) => Buffer.concat([Buffer.of(80), string("x@y"), Buffer.of(wants)]);
  expect([0, 1, 255].map((wants) => wantsGlobalReply(request(wants)))).toEqual([false, true, true]);
  expect(wantsGlobalReply(request(1).subarray(0, -1))).toBe(false);
  expect(wantsGlobalReply(Buffer.of(90, 1))).toBe(false);
});

test("a length that runs past the end of the message is no name", () => {
  expect(globalRequestName(Buffer.of(80, 255, 255, 255, 255, 97))).toBeNull();
  expect(globalRequestName(Buffer.of(80, 0, 0))).toBeNull();
  expect(refuseChannel(Buffer.of(90, 0, 0, 0, 1, 97, 0, 0), "why", 0)).toEqual([]);
});

test("a refused session gets the reason on its standard error and exit status 255", () => {
  const open = Buffer.concat([Buffer.of(90, 0, 0, 0, 7), Buffer.from("session"), Buffer.of(0, 0, 0, 9), Buffer.alloc(8)]);
  const [confirmed, told, exit, eof, close] = refuseChannel(open, "why", 3);
  expect(confirmed).toEqual(Buffer.of(91, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x80, 0));
  expect(told).toEqual(Buffer.concat([Buffer.of(95, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 5), Buffer.from("why\r\n")]));
  expect(exit?.subarray(-4)).toEqual(Buffer.of(0, 0, 0, 255));
  expect(eof).toEqual(Buffer.of(96, 0, 0, 0, 9));
  expect(close).toEqual(Buffer.of(97, 0, 0, 0, 9));
});

test("messages of our own have the form of their RFC", () => {
  expect(disconnectMessage(11, "é")).toEqual(Buffer.of(1, 0, 0, 0, 11, 0, 0, 0, 2, 0xc3, 0xa9, 0, 0, 0, 0));
  expect(bannerMessage("a")).toEqual(Buffer.of(53, 0, 0, 0, 3, 97, 13, 10, 0, 0, 0, 0));
  expect(debugMessage("a")).toEqual(Buffer.of(4, 1, 0, 0, 0, 1, 97, 0, 0, 0, 0));
});
