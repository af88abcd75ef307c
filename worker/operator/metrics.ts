import type { HostRow } from "../../durable-objects/contract.ts";
import { readRegions } from "../../durable-objects/settings.ts";
import { type Result, success } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { listHosts } from "../services/operator.ts";

/** One figure of a region or of one of its hosts. */
interface Gauge {
  readonly name: string;
  readonly help: string;
  readonly of: (host: HostRow) => number | null;
}

const MIB = 1024 * 1024;
const bytes = (mebibytes: number | null) => (mebibytes === null ? null : mebibytes * MIB);

const GAUGES: readonly Gauge[] = [
  {
    name: "postern_host_connected",
    help: "Whether the host's feed is open and it sends heartbeats.",
    of: (host) => Number(host.connected),
  },
  {
    name: "postern_host_down",
    help: "Whether the host was silent for so long that nothing is sent to it.",
    of: (host) => Number(host.down),
  },
  { name: "postern_host_draining", help: "Whether the host takes no new VMs and wakes none.", of: (host) => Number(host.draining) },
  { name: "postern_host_vms", help: "VMs placed on the host, sleeping ones included.", of: (host) => host.vmCount },
  { name: "postern_host_vms_running", help: "VMs that run on the host.", of: (host) => host.running },
  { name: "postern_host_capacity", help: "Most VMs that the host takes.", of: (host) => host.capacity },
  { name: "postern_host_memory_bytes", help: "Memory of the host.", of: (host) => bytes(host.memory) },
  { name: "postern_host_free_memory_bytes", help: "Memory that the host has left.", of: (host) => bytes(host.freeMemory) },
  { name: "postern_host_free_disk_bytes", help: "Disk that the host has left for VMs.", of: (host) => bytes(host.freeDisk) },
];

/** What every region knows of its hosts, in the text format of Prometheus (version 0.0.4). */
export async function regionMetrics(edge: Edge): Promise<Result<string>> {
  const hosts: { readonly region: string; readonly host: HostRow }[] = [];
  for (const region of readRegions(edge.env.REGIONS)) {
    const listed = await listHosts(edge, region);
    if (!listed.ok) return listed;
    for (const host of listed.value) hosts.push({ region, host });
  }
  return success(GAUGES.map((gauge) => render(gauge, hosts)).join(""));
}

function render({ name, help, of }: Gauge, hosts: readonly { readonly region: string; readonly host: HostRow }[]): string {
  const lines = hosts.flatMap(({ region, host }) => {
    const value = of(host);
    return value === null ? [] : [`${name}{region=${JSON.stringify(region)},host="${host.id}"} ${value}\n`];
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${lines.join("")}`;
}
