import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DriverError } from "../driver.ts";
import { SerialQueue } from "../wake.ts";
import {
  chooseNetwork,
  formatNetwork,
  gatewayOf,
  macOf,
  type Network,
  networkNames,
  overlaps,
  parseNetwork,
  portOf,
} from "./addressing.ts";
import { type GuestPort, renderFirewall, renderPort, renderRemoval } from "./firewall.ts";
import { egressMtu, hostLinks, routedNetworks } from "./host-links.ts";
import { hostNameservers } from "./nameservers.ts";
import { runCommand } from "./run-command.ts";

export interface GuestNetworkSettings {
  /** Resolvers of guests whose host names only resolvers on its own loopback. */
  readonly fallbackNameservers: readonly string[];
  /** MTU where the host has no default route to take it from, bytes. */
  readonly fallbackMtu: number;
}

/** Sane defaults; see docs/settings.md. */
export const DEFAULT_NETWORK_SETTINGS: GuestNetworkSettings = {
  fallbackNameservers: ["1.1.1.1", "9.9.9.9"],
  fallbackMtu: 1_500,
};

/** A route with a shorter prefix is a way out (some VPNs halve the default route), not a network in use. */
const NARROWEST_WAY_OUT = 8;
const IP_FORWARD = "/proc/sys/net/ipv4/ip_forward";

/**
 * The network of one host agent's guests: a bridge whose ports are isolated from each other, and an nftables table.
 * Which network it is was decided once, and is kept in `stateDir/network.json`. Opening turns on `net.ipv4.ip_forward`,
 * without which guests have no way out, and closing leaves it on: others on the host may have come to need it.
 */
export class GuestNetwork {
  readonly network: Network;
  readonly gateway: string;
  readonly nameservers: readonly string[];
  readonly #names: ReturnType<typeof networkNames>;
  readonly #mtu: number;
  readonly #ports = new Map<string, GuestPort>();
  /** One at a time: a whole firewall must not undo the port that another transaction has just admitted. */
  readonly #transactions = new SerialQueue();
  /** Addresses that the firewall in force keeps offline, those of guests that are gone included. */
  #offline = new Set<string>();
  #metadataPort: number | null = null;

  private constructor(tag: string, network: Network, nameservers: readonly string[], mtu: number) {
    this.network = network;
    this.gateway = gatewayOf(network);
    this.nameservers = nameservers;
    this.#names = networkNames(tag);
    this.#mtu = mtu;
  }

  /** Makes the bridge and the firewall; finds those of a crashed predecessor and takes them over. */
  static async open(tag: string, stateDir: string, settings: GuestNetworkSettings): Promise<GuestNetwork> {
    const nameservers = await hostNameservers(settings.fallbackNameservers);
    const network = await settleNetwork(tag, stateDir, nameservers);
    const opened = new GuestNetwork(tag, network, nameservers, await egressMtu(settings.fallbackMtu));
    await opened.#makeBridge();
    await opened.#applyFirewall();
    if ((await readFile(IP_FORWARD, "utf8")).trim() === "0") await writeFile(IP_FORWARD, "1");
    return opened;
  }

  /** Sends what guests ask of 169.254.169.254:80 to the gateway's port. */
  async routeMetadata(port: number): Promise<void> {
    this.#metadataPort = port;
    await this.#applyFirewall();
  }

  /**
   * Gives the network namespace of a process its interface, address and default route. Does nothing but admit the port
   * when it is there already: an interface lives and dies with its namespace.
   */
  async attach(address: string, pid: number, internet: boolean): Promise<void> {
    const { bridge, portPrefix } = this.#names;
    const name = portOf(portPrefix, this.network, address);
    const mac = macOf(address);
    const [isAttached] = await Promise.all([this.#isAttached(name, pid), this.#admit({ name, mac, address, internet })]);
    if (isAttached) return;
    // A half-made one, or one whose dead namespace the kernel has not cleared yet, would be in the way.
    await this.#removePort(name);
    await ipBatch([
      `link add ${name} mtu ${this.#mtu} type veth peer name eth0 address ${mac} mtu ${this.#mtu} netns ${pid}`,
      `link set ${name} addrgenmode none`,
      `neigh replace ${address} lladdr ${mac} dev ${bridge} nud permanent`,
    ]);
    await runCommand("network", "nsenter", ["--target", String(pid), "--net", "ip", "-batch", "-"], {
      input: [
        "link set lo up",
        "link set eth0 addrgenmode none",
        `address replace ${address}/${this.network.prefix} dev eth0`,
        "link set eth0 up",
        `route replace default via ${this.gateway} dev eth0`,
        "",
      ].join("\n"),
    });
    // Joining the bridge comes last: being its port is the sign that everything before was done.
    await ipBatch([`link set ${name} up`, `link set ${name} master ${bridge}`, `link set ${name} type bridge_slave isolated on`]);
  }

  /** The name that the interface of the guest with this address must have. */
  portName(address: string): string {
    return portOf(this.#names.portPrefix, this.network, address);
  }

  /** MTU that guests must have. */
  get mtu(): number {
    return this.#mtu;
  }

  /**
   * Joins the interface of a virtual machine, which its process has made and will take with it, to the bridge. Repeating it
   * changes nothing.
   */
  async attachTap(address: string, internet: boolean): Promise<void> {
    const { bridge } = this.#names;
    const name = this.portName(address);
    const mac = macOf(address);
    await this.#admit({ name, mac, address, internet });
    await ipBatch([
      `link set ${name} mtu ${this.#mtu} addrgenmode none up`,
      `neigh replace ${address} lladdr ${mac} dev ${bridge} nud permanent`,
      `link set ${name} master ${bridge}`,
      `link set ${name} type bridge_slave isolated on`,
    ]);
  }

  /** Forgets a guest's port, and removes it if its namespace still lives. */
  async detach(address: string): Promise<void> {
    const name = portOf(this.#names.portPrefix, this.network, address);
    if (!this.#ports.delete(name)) return;
    await this.#removePort(name);
  }

  /** Removes bridge, ports and firewall. */
  async close(): Promise<void> {
    await removeNetwork(this.#names);
  }

  /**
   * Whether this guest, and not the machine's last boot, holds the port: the kernel clears a dead namespace when it finds
   * time, and until then the old port looks alive on the bridge.
   */
  async #isAttached(name: string, pid: number): Promise<boolean> {
    if ((await hostLinks()).get(name)?.master !== this.#names.bridge) return false;
    const inGuest = ["--target", String(pid), "--net", "ip", "link", "show", "dev", "eth0"];
    return runCommand("network", "nsenter", inGuest).then(
      () => true,
      () => false,
    );
  }

  async #removePort(name: string): Promise<void> {
    await runCommand("network", "ip", ["-force", "-batch", "-"], { input: `link delete ${name}\n` }).catch(() => undefined);
  }

  async #makeBridge(): Promise<void> {
    const { bridge } = this.#names;
    if (!(await hostLinks()).has(bridge)) await ipBatch([`link add ${bridge} type bridge stp_state 0 mcast_snooping 0`]);
    await ipBatch([
      // A fixed address, or guests that outlive this agent would keep the old one in their neighbour tables.
      `link set ${bridge} address ${macOf(this.gateway)} mtu ${this.#mtu} addrgenmode none`,
      `address replace ${this.gateway}/${this.network.prefix} dev ${bridge}`,
      `link set ${bridge} up`,
    ]);
  }

  #applyFirewall(): Promise<void> {
    return this.#transactions.run(async () => {
      const ports = [...this.#ports.values()];
      await nft(
        renderFirewall({
          ...this.#names,
          network: formatNetwork(this.network),
          gateway: this.gateway,
          metadataPort: this.#metadataPort,
          nameservers: this.nameservers,
          ports,
        }),
      );
      this.#offline = new Set(ports.filter((port) => !port.internet).map((port) => port.address));
    });
  }

  /** Lets a guest's frames pass, and its packets out only if they may. */
  async #admit(port: GuestPort): Promise<void> {
    this.#ports.set(port.name, port);
    // The address was an offline guest's: only the whole firewall anew forgets that.
    if (port.internet && this.#offline.has(port.address)) return this.#applyFirewall();
    if (!port.internet) this.#offline.add(port.address);
    await this.#transactions.run(() => nft(renderPort(this.#names.table, port)));
  }
}

/** Removes what an agent has in the kernel's network, whoever left it there. */
export async function removeNetwork(names: ReturnType<typeof networkNames>): Promise<void> {
  await nft(renderRemoval(names.table));
  const links = [...(await hostLinks()).keys()].filter((name) => name === names.bridge || name.startsWith(names.portPrefix));
  // An interface may vanish by itself between the look and the removal.
  await Promise.all(links.map((name) => runCommand("network", "ip", ["link", "delete", name]).catch(() => undefined)));
}

async function settleNetwork(tag: string, stateDir: string, nameservers: readonly string[]): Promise<Network> {
  const path = join(stateDir, "network.json");
  const resolvers = nameservers.map(parseNetwork).filter((network) => network !== null);
  const routed = await routedNetworks(networkNames(tag).bridge);
  const taken = [...routed.filter((route) => route.prefix >= NARROWEST_WAY_OUT), ...resolvers];
  const text = await readFile(path, "utf8").catch(() => null);
  if (text !== null) {
    const kept = parseNetwork(String((JSON.parse(text) as { network?: unknown }).network));
    if (kept === null) throw new DriverError("network", `${path} names no network`);
    const rival = taken.find((network) => overlaps(network, kept));
    if (rival === undefined) return kept;
    throw new DriverError("network", `the guests' network ${formatNetwork(kept)} is now taken by ${formatNetwork(rival)}`);
  }
  const chosen = chooseNetwork(tag, taken);
  if (chosen === null) throw new DriverError("network", "every network that guests could have is in use on this host");
  await mkdir(stateDir, { recursive: true });
  await writeFile(`${path}.new`, JSON.stringify({ network: formatNetwork(chosen) }));
  await rename(`${path}.new`, path);
  return chosen;
}

async function ipBatch(lines: readonly string[]): Promise<void> {
  await runCommand("network", "ip", ["-batch", "-"], { input: `${lines.join("\n")}\n` });
}

/**
 * Makes a transaction: the kernel takes all of it or nothing. Every one here leaves the same rules however often it is made, so it
 * is made again when nft crashes, as it may where another process changes the rules of the host at the same time.
 */
async function nft(transaction: string): Promise<void> {
  await runCommand("network", "nft", ["-f", "-"], { input: transaction, repeatable: true });
}
