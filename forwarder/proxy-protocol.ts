import { SocketAddress } from "node:net";

/** A PROXY protocol v2 header (haproxy's proxy-protocol.txt, section 2.2). */
export type ProxyHeader =
  | { readonly kind: "more" }
  /** `address`: the client's, or null when the proxy speaks for itself (a health check). `rest`: what follows the header. */
  | { readonly kind: "header"; readonly address: string | null; readonly rest: Buffer }
  | { readonly kind: "refused" };

const SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
const FIXED_BYTES = 16;

/** Longest header, extensions included. */
export const MAX_PROXY_HEADER_BYTES = 2_048;

const TCP_OVER_IPV4 = 0x11;
const TCP_OVER_IPV6 = 0x21;

/** Reads a header from everything that has come so far. Only for peers that are trusted to tell who their client is. */
export function readProxyHeader(bytes: Buffer): ProxyHeader {
  const known = Math.min(bytes.length, SIGNATURE.length);
  if (!bytes.subarray(0, known).equals(SIGNATURE.subarray(0, known))) return { kind: "refused" };
  if (bytes.length < FIXED_BYTES) return { kind: "more" };
  const versionAndCommand = bytes.readUInt8(12);
  const family = bytes.readUInt8(13);
  const end = FIXED_BYTES + bytes.readUInt16BE(14);
  const isLocal = versionAndCommand === 0x20;
  if ((!isLocal && versionAndCommand !== 0x21) || end > MAX_PROXY_HEADER_BYTES) return { kind: "refused" };
  if (bytes.length < end) return { kind: "more" };
  const rest = bytes.subarray(end);
  if (isLocal) return { kind: "header", address: null, rest };
  const address = readAddress(family, bytes.subarray(FIXED_BYTES, end));
  return address === null ? { kind: "refused" } : { kind: "header", address, rest };
}

function readAddress(family: number, body: Buffer): string | null {
  if (family === TCP_OVER_IPV4 && body.length >= 12) return [...body.subarray(0, 4)].join(".");
  if (family !== TCP_OVER_IPV6 || body.length < 36) return null;
  const groups = Array.from({ length: 8 }, (_, index) => body.readUInt16BE(index * 2).toString(16));
  return new SocketAddress({ address: groups.join(":"), family: "ipv6" }).address;
}
