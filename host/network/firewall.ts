/** What the firewall of one host agent's guests depends on. */
export interface FirewallState {
  readonly table: string;
  readonly bridge: string;
  readonly portPrefix: string;
  /** The guests' network in `a.b.c.d/n` form. */
  readonly network: string;
  readonly gateway: string;
  /** Where metadata is served on the gateway, or null while it is not. */
  readonly metadataPort: number | null;
  /** Resolvers a guest may ask even where they are addresses of the host itself. */
  readonly nameservers: readonly string[];
  readonly ports: readonly GuestPort[];
}

/** A guest's interface on the bridge and the only addresses that may come from it. */
export interface GuestPort {
  readonly name: string;
  readonly mac: string;
  readonly address: string;
  /** False: metadata is all that this guest reaches. */
  readonly internet: boolean;
}

/** Priority of the filters: before a host's own firewall, whose verdicts then still apply. */
const PRIORITY = "filter - 10";

function portElement(port: GuestPort): string {
  return `"${port.name}" . ${port.mac} . ${port.address}`;
}

/** One nft transaction that admits a port beside those already known, with or without a way out. */
export function renderPort(table: string, port: GuestPort): string {
  const offline = port.internet ? "" : `add element inet ${table} offline { ${port.address} }\n`;
  return `${offline}add element bridge ${table} ports { ${portElement(port)} }\n`;
}

/** One nft transaction that removes both tables, whether they exist or not. */
export function renderRemoval(table: string): string {
  return ["inet", "bridge"].map((family) => `add table ${family} ${table}\ndelete table ${family} ${table}\n`).join("");
}

/**
 * One nft transaction that replaces the agent's tables whole. Guests reach the internet masqueraded, metadata, and the
 * host's resolvers; not each other, not another port or address of the host, not the link-local range where clouds keep
 * their own metadata. A guest in the set `offline` reaches metadata only. Nobody outside reaches a guest. A frame whose source is not its port's is dropped at the bridge.
 */
export function renderFirewall(state: FirewallState): string {
  const { table, bridge, network, gateway, metadataPort, nameservers, portPrefix, ports } = state;
  const fromGuests = `iifname "${bridge}"`;
  const metadataRedirect =
    metadataPort === null ? [] : [`${fromGuests} ip daddr 169.254.169.254 tcp dport 80 dnat ip to ${gateway}:${metadataPort}`];
  const metadataAccept = metadataPort === null ? [] : [`${fromGuests} ip daddr ${gateway} tcp dport ${metadataPort} accept`];
  const resolvers = nameservers.length === 0 ? [] : [`ip daddr { ${nameservers.join(", ")} }`];
  const resolverAccept = resolvers.flatMap((match) =>
    ["udp", "tcp"].map((kind) => `${fromGuests} ${match} ${kind} dport 53 accept`),
  );
  // Told at once, a guest's programs fail at once instead of waiting.
  const reject = "reject with icmpx type admin-prohibited";
  const offlineReject = `ip saddr @offline ${reject}`;
  const offline = ports.filter((port) => !port.internet).map((port) => port.address);
  const elements = ports.length === 0 ? "" : `elements = { ${ports.map(portElement).join(", ")} }`;
  return `${renderRemoval(table)}
table inet ${table} {
  set offline {
    type ipv4_addr
    ${offline.length === 0 ? "" : `elements = { ${offline.join(", ")} }`}
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    ${metadataRedirect.join("\n    ")}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${network} oifname != "${bridge}" masquerade
  }
  chain input {
    type filter hook input priority ${PRIORITY}; policy accept;
    ${fromGuests} ct state established,related accept
    ${[...metadataAccept, `${fromGuests} ${offlineReject}`, ...resolverAccept].join("\n    ")}
    ${fromGuests} ${reject}
  }
  chain forward {
    type filter hook forward priority ${PRIORITY}; policy accept;
    ${fromGuests} oifname "${bridge}" ${reject}
    ${fromGuests} ip saddr != ${network} drop
    ${fromGuests} ${offlineReject}
    ${fromGuests} ip daddr 169.254.0.0/16 ${reject}
    oifname "${bridge}" ct state established,related accept
    oifname "${bridge}" drop
  }
}
table bridge ${table} {
  set ports {
    type ifname . ether_addr . ipv4_addr
    ${elements}
  }
  chain prerouting {
    type filter hook prerouting priority filter; policy accept;
    iifname "${portPrefix}*" ether type ip iifname . ether saddr . ip saddr @ports accept
    iifname "${portPrefix}*" ether type arp iifname . arp saddr ether . arp saddr ip @ports accept
    iifname "${portPrefix}*" drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "${portPrefix}*" oifname "${portPrefix}*" drop
  }
}
`;
}
