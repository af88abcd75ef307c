import fc from "fast-check";
import { expect, test } from "vitest";
import { MAX_FIRST_KEXINIT_BYTES, readFirstKexinit } from "../../forwarder/first-kexinit.ts";
import { string, uint32 } from "../../forwarder/ssh-wire.ts";

/** A packet before the first keys (RFC 4253 section 6). */
function packet(payload: Buffer): Buffer {
  const padding = 16 - ((5 + payload.length) % 8);
  return Buffer.concat([uint32(1 + payload.length + padding), Buffer.of(padding), payload, Buffer.alloc(padding)]);
}

function kexinit(lists: readonly string[], type = 20): Buffer {
  return packet(Buffer.concat([Buffer.of(type), Buffer.alloc(16, 7), ...lists.map((list) => string(list)), Buffer.alloc(5)]));
}

const WHOLE = kexinit(["curve25519-sha256", "ssh-ed25519", "aes128-ctr,aes256-ctr", "aes128-gcm@openssh.com", "", "", "none"]);
const READ = { kind: "ciphers", up: ["aes128-ctr", "aes256-ctr"], down: ["aes128-gcm@openssh.com"] };

test("a client's ciphers are read once its KEXINIT is whole, and not before", () => {
  for (let length = 0; length < WHOLE.length; length += 1) expect(readFirstKexinit(WHOLE.subarray(0, length)).kind).toBe("more");
  expect(readFirstKexinit(WHOLE)).toEqual(READ);
  expect(readFirstKexinit(Buffer.concat([WHOLE, Buffer.from("a guess")]))).toEqual(READ);
});

test.each([
  ["another message", kexinit(["a", "b", "c", "d"], 2)],
  ["lists cut short", packet(Buffer.concat([Buffer.alloc(17, 20), string("a"), string("b"), uint32(1_000)]))],
  ["no lists", packet(Buffer.of(20))],
  ["a length of nothing", uint32(0)],
  ["a length beyond every client's", uint32(MAX_FIRST_KEXINIT_BYTES)],
  ["ciphertext", Buffer.alloc(64, 0xff)],
])("%s is not waited for", (_what, bytes) => {
  expect(readFirstKexinit(bytes)).toEqual({ kind: "other" });
});

test("whatever comes is decided within its bound, and no later byte changes the decision", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(200), (bytes, at) => {
      const mixed = Buffer.concat([WHOLE.subarray(0, at), bytes]);
      const { kind } = readFirstKexinit(mixed);
      if (kind === "more") expect(mixed.length).toBeLessThan(MAX_FIRST_KEXINIT_BYTES);
      else expect(readFirstKexinit(Buffer.concat([mixed, bytes]))).toEqual(readFirstKexinit(mixed));
    }),
  );
});
