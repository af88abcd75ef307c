import { createHash } from "node:crypto";

/** An IPv4 network: its first address as a 32-bit number, and its prefix length. */
export interface Network {
  readonly base: number;
  readonly prefix: number;
}

/** Guests' networks are /20s: 4,093 guests a host. */
export const GUEST_PREFIX = 20;
/** Where guests' networks are chosen from: the half of 10.0.0.0/8 that home and office routers use least. */
export const GUEST_RANGE: Network = { base: 0x0a800000, prefix: 9 };

const SLOTS = 2 ** (GUEST_PREFIX - GUEST_RANGE.prefix);

/** First 8 hexadecimal digits of SHA-256: names what belongs to one host agent, from its state directory. */
export function agentTag(stateDir: string): string {
  return createHash("sha256").update(stateDir).digest("hex").slice(0, 8);
}

/** Names of the kernel objects of one host agent. Interface names hold at most 15 characters. */
export function networkNames(tag: string): { readonly bridge: string; readonly portPrefix: string; readonly table: string } {
  return { bridge: `pst${tag}`, portPrefix: `pv${tag}`, table: `postern_${tag}` };
}

/** An IPv4 address as a 32-bit number, or null. */
export function parseAddress(text: string): number | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  let value = 0;
  for (const part of parts) {
    if (!/^\d{1,3}$/.test(part) || Number(part) > 255) return null;
    value = value * 256 + Number(part);
  }
  return value;
}

export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
}

/** `a.b.c.d/n` or a bare address (a /32), or null. Bits beyond the prefix are dropped. */
export function parseNetwork(text: string): Network | null {
  const [head = "", length = "32", ...rest] = text.split("/");
  const address = parseAddress(head);
  const prefix = Number(length);
  if (address === null || rest.length > 0 || !/^\d{1,2}$/.test(length) || prefix > 32) return null;
  return { base: address - (address % 2 ** (32 - prefix)), prefix };
}

export function formatNetwork(network: Network): string {
  return `${formatAddress(network.base)}/${network.prefix}`;
}

export function overlaps(left: Network, right: Network): boolean {
  const size = 2 ** (32 - Math.min(left.prefix, right.prefix));
  return Math.floor(left.base / size) === Math.floor(right.base / size);
}

/**
 * A guests' network that overlaps none of `taken`, or null when all are. The tag decides where the search starts, so an
 * agent gets the same network again and two agents start at different ones.
 */
export function chooseNetwork(tag: string, taken: readonly Network[]): Network | null {
  const first = Number.parseInt(tag, 16) % SLOTS;
  for (let step = 0; step < SLOTS; step += 1) {
    const slot = (first + step) % SLOTS;
    const candidate: Network = { base: GUEST_RANGE.base + slot * 2 ** (32 - GUEST_PREFIX), prefix: GUEST_PREFIX };
    if (!taken.some((network) => overlaps(network, candidate))) return candidate;
  }
  return null;
}

/** The host's own address on a guests' network: the first one. */
export function gatewayOf(network: Network): string {
  return formatAddress(network.base + 1);
}

/** The MAC address that goes with a guest's IPv4 address: locally administered, so no vendor has it. */
export function macOf(address: string): string {
  const value = parseAddress(address);
  if (value === null) throw new Error(`not an IPv4 address: ${address}`);
  const bytes = [24, 16, 8, 0].map((shift) => ((value >>> shift) & 255).toString(16).padStart(2, "0"));
  return ["02", "50", ...bytes].join(":");
}

/** The host-side interface of the guest with this address: the agent's prefix and the address's place in the network. */
export function portOf(portPrefix: string, network: Network, address: string): string {
  const value = parseAddress(address);
  if (value === null) throw new Error(`not an IPv4 address: ${address}`);
  return `${portPrefix}${(value - network.base).toString(16).padStart(4, "0")}`;
}
