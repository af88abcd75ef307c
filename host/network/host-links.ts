import { z } from "zod";
import { type Network, parseNetwork } from "./addressing.ts";
import { runCommand } from "./run-command.ts";

const routes = z.array(z.object({ dst: z.string(), dev: z.string().optional() }));
const links = z.array(z.object({ ifname: z.string(), mtu: z.int(), master: z.string().optional() }));

export interface Link {
  readonly name: string;
  readonly mtu: number;
  readonly master: string | null;
}

async function ipJson(args: readonly string[]): Promise<unknown> {
  const text = await runCommand("network", "ip", ["-json", ...args]);
  return text.trim() === "" ? [] : JSON.parse(text);
}

/** Every network that the host has a route to, but for the default route and those of the interface named. */
export async function routedNetworks(exceptDevice: string): Promise<readonly Network[]> {
  const found = routes.parse(await ipJson(["-4", "route", "show", "table", "all"]));
  return found
    .filter((route) => route.dev !== exceptDevice)
    .map((route) => parseNetwork(route.dst))
    .filter((network) => network !== null);
}

/** The interfaces of the host by name. */
export async function hostLinks(): Promise<ReadonlyMap<string, Link>> {
  const found = links.parse(await ipJson(["link", "show"]));
  return new Map(found.map(({ ifname, mtu, master }) => [ifname, { name: ifname, mtu, master: master ?? null }]));
}

/** MTU of the way out, which guests must share: a larger one loses packets where path MTU discovery is blocked. */
export async function egressMtu(fallback: number): Promise<number> {
  const defaults = routes.parse(await ipJson(["-4", "route", "show", "default"]));
  const known = await hostLinks();
  return known.get(defaults[0]?.dev ?? "")?.mtu ?? fallback;
}
