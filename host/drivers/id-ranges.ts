import { type Network, parseAddress } from "../network/addressing.ts";

/** Ids of users and groups of the host that stand for a guest's own 0 to `size` - 1; the same for both. */
export interface IdRange {
  readonly first: number;
  readonly size: number;
}

/** As many ids as a Linux system is made for: `nobody` is 65534. */
const SIZE = 65_536;
/**
 * 0x70000000 to 0x7fffffff: above what user tools and container managers hand out, below what 31 bits hold (systemd's
 * UIDS-GIDS, "Summary"). 4,096 ranges, as many as a guests' network has addresses.
 */
const FIRST = 0x7000_0000;
const RANGES = 4_096;

/**
 * The range of the guest with this address: of its place in the network, so no two guests of an agent have one at the same time, and
 * a deleted guest's is used again with its address.
 */
export function idRangeOf(network: Network, address: string): IdRange {
  const place = (parseAddress(address) ?? Number.NaN) - network.base;
  if (!(place >= 0 && place < RANGES)) throw new Error(`${address} is not an address of the guests' network`);
  return { first: FIRST + place * SIZE, size: SIZE };
}

/** The range whose first id a machine's label holds; null where it holds none, as on a machine with the host's own ids. */
export function idRangeFrom(label: string): IdRange | null {
  return /^\d{1,10}$/.test(label) ? { first: Number(label), size: SIZE } : null;
}
