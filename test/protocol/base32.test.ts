import fc from "fast-check";
import { expect, test } from "vitest";
import { BASE32_PATTERN, encodeBase32 } from "../../protocol/base32.ts";
import { equalInConstantTime, sha256Hex, toHex } from "../../protocol/bytes.ts";

// RFC 4648 section 10, lower-cased and unpadded.
test.each([
  ["", ""],
  ["f", "my"],
  ["fo", "mzxq"],
  ["foo", "mzxw6"],
  ["foob", "mzxw6yq"],
  ["fooba", "mzxw6ytb"],
  ["foobar", "mzxw6ytboi"],
])("%j encodes as %j", (text, encoded) => {
  expect(encodeBase32(new TextEncoder().encode(text))).toBe(encoded);
});

test("any bytes encode to their own lower-case digits, and no two byte strings to the same", () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const text = encodeBase32(bytes);
      expect(text).toMatch(BASE32_PATTERN);
      expect(text).toHaveLength(Math.ceil((bytes.length * 8) / 5));
      expect(decode(text, bytes.length)).toEqual(bytes);
    }),
  );
});

test("strings are equal in constant time exactly when they are equal", () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (left, right) => {
      expect(equalInConstantTime(left, right)).toBe(left === right);
      expect(equalInConstantTime(left, left)).toBe(true);
      expect(equalInConstantTime(left, `${left}x`)).toBe(false);
    }),
  );
});

test("hashes are hexadecimal and of the UTF-8 bytes", async () => {
  expect(await sha256Hex("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  expect(toHex(Uint8Array.of(0, 15, 255))).toBe("000fff");
});

function decode(text: string, length: number): Uint8Array {
  const bits = [...text].map((digit) => "abcdefghijklmnopqrstuvwxyz234567".indexOf(digit).toString(2).padStart(5, "0")).join("");
  return Uint8Array.from({ length }, (_, index) => Number.parseInt(bits.slice(index * 8, index * 8 + 8), 2));
}
