/** Data types of SSH messages (RFC 4251 section 5). */

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function string(content: string | Uint8Array): Buffer {
  const bytes = typeof content === "string" ? Buffer.from(content, "utf8") : content;
  return Buffer.concat([uint32(bytes.length), bytes]);
}

/** A positive multiple-precision integer from its big-endian bytes. */
export function mpint(magnitude: Uint8Array): Buffer {
  const first = magnitude.findIndex((byte) => byte !== 0);
  const digits = first === -1 ? Buffer.alloc(0) : Buffer.from(magnitude.subarray(first));
  return string((digits[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.of(0), digits]) : digits);
}

/** The strings that follow each other from `offset` to the end; null when the last one is cut short. */
export function readStrings(bytes: Uint8Array, offset: number): Buffer[] | null {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const strings: Buffer[] = [];
  for (let at = offset; at < all.length; ) {
    if (at + 4 > all.length) return null;
    const end = at + 4 + all.readUInt32BE(at);
    if (end > all.length) return null;
    strings.push(Buffer.from(all.subarray(at + 4, end)));
    at = end;
  }
  return strings;
}

/** The first `count` name-lists from `offset` on; null when one is cut short. */
export function readNameLists(bytes: Uint8Array, offset: number, count: number): string[][] | null {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const lists: string[][] = [];
  for (let at = offset; lists.length < count; ) {
    if (at + 4 > all.length) return null;
    const end = at + 4 + all.readUInt32BE(at);
    if (end > all.length) return null;
    lists.push(all.toString("latin1", at + 4, end).split(","));
    at = end;
  }
  return lists;
}
