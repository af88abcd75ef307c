import type { SeedFile } from "../driver.ts";
import type { ContainerSettings } from "./container-settings.ts";
import type { IdRange } from "./id-ranges.ts";
import type { OwnLimits } from "./own-limits.ts";

export const VM_LABEL = "postern.vm";
export const ADDRESS_LABEL = "postern.address";
export const INTERNET_LABEL = "postern.internet";
/** First id of the machine's range; empty where the guest's ids are the host's. */
export const IDS_LABEL = "postern.ids";

/** Over which a share of processors is counted, microseconds: the kernel's own default. */
const CPU_PERIOD_US = 100_000;
/** Memory and swap together, in proportion to memory. */
const SWAP_FACTOR = 2;
/** Most of a guest's memory that files under /run take: systemd's own share. */
const RUN_SHARE = 0.2;
/** What systemd as the first process takes as the wish to end in order: SIGRTMIN+3 (systemd(1), signals; signal(7)). */
const SIGRTMIN_PLUS_3 = 37;
/** Every part of a process's environment before anybody logs in. */
const ENVIRONMENT = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C.UTF-8" };

/**
 * What a guest's root may do beyond a user: run daemons, change owners and users, chroot. Not: raw sockets, the host's
 * network, devices, mounts, modules. AUDIT_WRITE: without it OpenSSH ends every login on kernels with audit.
 */
const CAPABILITIES = [
  "AUDIT_WRITE",
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "NET_BIND_SERVICE",
  "SETFCAP",
  "SETGID",
  "SETPCAP",
  "SETUID",
  "SYS_CHROOT",
];

/**
 * No device may be opened or made but those that the runtime gives everybody. The engine says so by itself only for containers with
 * the host's ids; with others a guest can make none either way.
 */
const NO_DEVICES = [{ allow: false, access: "rwm" }];

/** Limits of a machine: processors may be a fraction. */
export interface EngineLimits {
  readonly cpus?: number;
  readonly memoryBytes?: number;
}

export interface EngineMachineSpec {
  readonly vmId: string;
  readonly address: string;
  readonly internet: boolean;
  readonly image: string;
  readonly limits: EngineLimits;
  /** The guest's own ids; null: the host's. */
  readonly ids: IdRange | null;
  readonly files: readonly SeedFile[];
}

/** Limits in the engine's words (OCI runtime specification, `linux.resources`). */
export function resourceLimits({ cpus, memoryBytes }: EngineLimits): object {
  return {
    ...(cpus === undefined ? {} : { cpu: { period: CPU_PERIOD_US, quota: Math.round(cpus * CPU_PERIOD_US) } }),
    ...(memoryBytes === undefined ? {} : { memory: { limit: memoryBytes, swap: memoryBytes * SWAP_FACTOR } }),
  };
}

/** Which ids a container has, in the engine's words; nothing where they are the host's. */
function idMappings(ids: IdRange | null): object {
  if (ids === null) return {};
  const map = [{ container_id: 0, host_id: ids.first, size: ids.size }];
  return { userns: { nsmode: "private" }, idmappings: { UIDMap: map, GIDMap: map } };
}

/**
 * Limits of each process. That of a user's processes is the highest that there is: the guest as a whole is limited by its cgroup, and
 * where ids are the host's, the kernel counts the processes of all guests together.
 */
function processLimits(settings: ContainerSettings, own: OwnLimits): readonly object[] {
  const limit = (type: string, value: number) => ({ type, soft: value, hard: value });
  return [limit("nofile", Math.min(settings.maxOpenFiles, own.openFiles)), limit("nproc", own.processes)];
}

/** A container that ends at once, with ids of its own, to see whether it may have them. */
export function probeOf(
  name: string,
  image: string,
  ids: IdRange,
  cgroupParent: string,
  settings: ContainerSettings,
  own: OwnLimits,
): object {
  return {
    name,
    image,
    entrypoint: ["/bin/true"],
    command: [],
    systemd: "false",
    netns: { nsmode: "none" },
    ...idMappings(ids),
    cgroup_parent: cgroupParent,
    cgroupns: { nsmode: "private" },
    r_limits: processLimits(settings, own),
  };
}

/** The container that a machine is: the body of podman's own create, its `SpecGenerator`. */
export function containerOf(spec: EngineMachineSpec, cgroupParent: string, settings: ContainerSettings, own: OwnLimits): object {
  const { vmId, address, internet, image, limits, ids } = spec;
  const runBytes = Math.floor((limits.memoryBytes ?? settings.memoryBytes) * RUN_SHARE);
  return {
    name: vmId,
    image,
    hostname: vmId,
    entrypoint: ["/usr/local/sbin/guest-init"],
    command: [],
    systemd: "false",
    stop_signal: SIGRTMIN_PLUS_3,
    env: ENVIRONMENT,
    labels: {
      [VM_LABEL]: vmId,
      [ADDRESS_LABEL]: address,
      [INTERNET_LABEL]: String(internet),
      [IDS_LABEL]: String(ids?.first ?? ""),
    },
    netns: { nsmode: "none" },
    ...idMappings(ids),
    cgroup_parent: cgroupParent,
    // Its own view of its own cgroup, in which systemd keeps its services apart.
    cgroupns: { nsmode: "private" },
    // systemd mounts these itself where they are missing, and may not.
    mounts: [
      tmpfs("/run", ["rw", "nosuid", "nodev", "mode=755", `size=${runBytes}`]),
      tmpfs("/run/lock", ["rw", "nosuid", "nodev", "noexec", "mode=1777", "size=5m"]),
    ],
    cap_drop: ["ALL"],
    cap_add: CAPABILITIES,
    resource_limits: { ...resourceLimits(limits), pids: { limit: settings.maxProcesses }, devices: NO_DEVICES },
    r_limits: processLimits(settings, own),
  };
}

function tmpfs(destination: string, options: readonly string[]): object {
  return { type: "tmpfs", source: "tmpfs", destination, options };
}
