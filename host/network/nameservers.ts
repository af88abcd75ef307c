import { readFile } from "node:fs/promises";
import { parseAddress } from "./addressing.ts";

/** Where a host says which resolvers it uses; the second is for hosts whose first names only a stub on loopback. */
const RESOLVER_FILES = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/** The IPv4 resolvers of a resolv.conf that a guest can use: loopback ones are the host's alone. */
export function guestNameservers(resolvConf: string): readonly string[] {
  const found = [...resolvConf.matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1] ?? "");
  return found.filter((address) => parseAddress(address) !== null && !address.startsWith("127."));
}

/** The host's resolvers for its guests, or `fallback` when the host has none that a guest could reach. */
export async function hostNameservers(fallback: readonly string[]): Promise<readonly string[]> {
  for (const path of RESOLVER_FILES) {
    const servers = guestNameservers(await readFile(path, "utf8").catch(() => ""));
    if (servers.length > 0) return servers;
  }
  return fallback;
}
