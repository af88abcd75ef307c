const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

/** Matches a string made only of lower-case base32 digits (RFC 4648 section 6, lower-cased, unpadded). */
export const BASE32_PATTERN = /^[a-z2-7]*$/;

/**
 * Encodes bytes as lower-case, unpadded base32 (RFC 4648 section 6), most significant bit first.
 * A last group of fewer than five bits is padded with zero bits, so 10 bytes give 16 digits.
 */
export function encodeBase32(bytes: Uint8Array): string {
  let text = "";
  let buffer = 0;
  let bits = 0;
  for (const byte of bytes) {
    buffer = (buffer << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += ALPHABET[(buffer >>> bits) & 31];
    }
    buffer &= (1 << bits) - 1;
  }
  return bits > 0 ? text + ALPHABET[(buffer << (5 - bits)) & 31] : text;
}
