import { expect, test } from "vitest";
import { Packet } from "../../forwarder/packet.ts";
import { string, uint32 } from "../../forwarder/ssh-wire.ts";
import { TypedInput } from "../../forwarder/typed-input.ts";

const request = (channel: number, name: string) =>
  Packet.ofPayload(Buffer.concat([Buffer.of(98), uint32(channel), string(name), Buffer.of(1)]));
const data = (channel: number, bytes: number) =>
  Packet.ofPayload(Buffer.concat([Buffer.of(94), uint32(channel), string("x".repeat(bytes))]));
const close = (channel: number) => Packet.ofPayload(Buffer.concat([Buffer.of(97), uint32(channel)]));

test("what comes on a channel that asked for a terminal is typed, until that is closed, and nothing else is", () => {
  const typed = new TypedInput();
  expect(typed.isTyped(data(7, 1))).toBe(false);
  expect(typed.isTyped(request(7, "pty-req"))).toBe(false);
  expect(typed.isTyped(request(8, "exec"))).toBe(false);
  expect([7, 8, 0].map((channel) => typed.isTyped(data(channel, 1)))).toEqual([true, false, false]);
  expect(typed.isTyped(data(7, 30_000))).toBe(false);
  expect(typed.isTyped(close(7))).toBe(false);
  expect(typed.isTyped(data(7, 1))).toBe(false);
});

test.each([[], [98], [98, 0, 0, 0], [98, 0, 0, 0, 1, 0, 0, 0, 7, 112], [94, 0, 0], [97]])(
  "a message that is cut short is not typed, and throws nothing: %s",
  (...bytes) => {
    const typed = new TypedInput();
    typed.isTyped(request(1, "pty-req"));
    expect(typed.isTyped(Packet.ofPayload(Buffer.from(bytes)))).toBe(false);
  },
);
