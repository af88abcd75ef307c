import fc from "fast-check";
import { expect, it } from "vitest";
import { CREDENTIAL_LENGTH } from "../../protocol/tokens.ts";
import { MOST_SHORT_CHARACTERS, shortHash } from "../../worker/auth/short-hash.ts";

const ascii = (maxLength: number) =>
  fc.string({ unit: fc.integer({ min: 0, max: 0x7f }).map((code) => String.fromCharCode(code)), maxLength });

/** SHA-256 by the runtime, two bytes a character. */
async function hashByRuntime(text: string): Promise<string> {
  const hash = new DataView(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return Array.from({ length: 16 }, (_, index) => String.fromCharCode(hash.getUint16(index * 2))).join("");
}

it("is SHA-256, at every length that fits", async () => {
  for (let length = 0; length <= MOST_SHORT_CHARACTERS; length += 1) {
    const text = "pst_0a~".repeat(10).slice(0, length);
    expect(shortHash(text)).toBe(await hashByRuntime(text));
  }
});

it("is SHA-256 of any text, whatever was hashed before", async () => {
  await fc.assert(
    fc.asyncProperty(ascii(MOST_SHORT_CHARACTERS), async (text) => {
      expect(shortHash(text)).toBe(await hashByRuntime(text));
    }),
  );
});

it("fits every credential", () => {
  expect(CREDENTIAL_LENGTH).toBeLessThanOrEqual(MOST_SHORT_CHARACTERS);
});

it("says so of a text that it cannot hash: one that is too long, or not ASCII though its low bytes are", () => {
  expect(shortHash("a".repeat(MOST_SHORT_CHARACTERS + 1))).toBeNull();
  expect(shortHash("a".repeat(10_000))).toBeNull();
  expect(shortHash(`ps${String.fromCharCode(0x100 + "t".charCodeAt(0))}_a`)).toBeNull();
});
