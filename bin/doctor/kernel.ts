import { type Finding, good, problem, warning } from "./check.ts";

/** Controllers of cgroups that limit a guest. */
const CONTROLLERS = ["cpu", "memory", "pids"] as const;

/** Whether this process may make machines: `uid` of the process. */
export function judgeUser(uid: number): Finding {
  return uid === 0 ? good("root") : problem(`user id ${uid}`, "run the host agent, and this command, as root");
}

/**
 * Whether guests can be limited: `cgroup.controllers` of the root of version 2, null where the host has version 1 or both, and then
 * `/proc/cgroups`.
 */
export function judgeCgroups(controllersOfV2: string | null, procCgroups: string | null): Finding {
  const version = controllersOfV2 === null ? 1 : 2;
  const enabled = controllersOfV2?.trim().split(/\s+/) ?? enabledOfV1(procCgroups ?? "");
  const missing = CONTROLLERS.filter((name) => !enabled.includes(name));
  if (missing.length === 0) return good(`version ${version}, with ${CONTROLLERS.join(", ")}`);
  return problem(
    `version ${version}, without ${missing.join(", ")}`,
    "guests are limited by these: boot without cgroup_disable=, and where this is a container, give it its controllers",
  );
}

/** A line each: name, hierarchy, number of cgroups, enabled. */
function enabledOfV1(procCgroups: string): readonly string[] {
  const lines = procCgroups.split("\n").map((line) => line.split(/\s+/));
  return lines.filter((words) => words[3] === "1").map(([name = ""]) => name);
}

/** The first kernel that lays file systems with other ids over each other: what spares each guest a copy of the image. */
const MAPS_IDS = [5, 19] as const;

/**
 * Whether containers can have users of their own. `most`: `/proc/sys/user/max_user_namespaces`; `release`: the kernel's; `wish`:
 * `POSTERN_CONTAINER_USER_NAMESPACES`. The host agent's own try at its start has the last word.
 */
export function judgeUserNamespaces(most: string | null, release: string, wish: "auto" | "on" | "off"): Finding {
  if (wish === "off")
    return warning("turned off", "root in a container is root on the host: unset POSTERN_CONTAINER_USER_NAMESPACES");
  const [major = 0, minor = 0] = release.split(".").map(Number);
  const isOld = major < MAPS_IDS[0] || (major === MAPS_IDS[0] && minor < MAPS_IDS[1]);
  if (Number(most ?? 0) > 0 && !isOld) return good(`containers have users of their own (kernel ${release})`);
  const found = isOld ? `kernel ${release} cannot map a guest's users` : "the kernel allows no user namespaces";
  const advice = isOld ? "use Linux 5.19 or later" : "sysctl -w user.max_user_namespaces=65536, on a kernel with CONFIG_USER_NS";
  return wish === "on" ? problem(found, advice) : warning(`${found}: root in a container is root on the host`, advice);
}

/** Whether guests' packets are passed on: what `/proc/sys/net/ipv4/ip_forward` says. */
export function judgeForwarding(value: string | null): Finding {
  if (value?.trim() === "1") return good("on");
  if (value?.trim() === "0") return warning("off", "the host agent turns it on; keep it so: sysctl -w net.ipv4.ip_forward=1");
  return problem("unknown", "/proc/sys/net/ipv4/ip_forward cannot be read: is /proc mounted?");
}

/** How full the disk of a folder is, in bytes and inodes. */
export interface DiskRoom {
  readonly freeBytes: number;
  readonly freeFiles: number;
  /** 0 for file systems that make them as they go. */
  readonly files: number;
}

const GIB = 1024 ** 3;
const FEW_FILES = 20_000;

/** Whether guests' disks have room: less than `leastBytes` stops a host, less than five times that is said. */
export function judgeDisk(folder: string, { freeBytes, freeFiles, files }: DiskRoom, leastBytes: number): Finding {
  const free = `${(freeBytes / GIB).toFixed(1)} GiB free in ${folder}`;
  const advice = "delete VMs or snapshots that nobody needs (their disks lie here), or give the folder a larger disk";
  if (freeBytes < leastBytes) return problem(free, advice);
  if (files > 0 && freeFiles < FEW_FILES) return problem(`only ${freeFiles} more files can be made in ${folder}`, advice);
  return freeBytes < 5 * leastBytes ? warning(free, advice) : good(free);
}

/** Whether the clocks of host and edge agree: the edge refuses assertions of one that is a minute off. */
export function judgeClock(skewMs: number, mostMs: number): Finding {
  const off = `${(Math.abs(skewMs) / 1_000).toFixed(1)} s ${skewMs < 0 ? "behind" : "ahead of"} the edge`;
  const advice =
    "let a time service set it (apt-get install systemd-timesyncd; timedatectl set-ntp true): a minute off, it cannot sign on";
  return Math.abs(skewMs) > mostMs ? problem(off, advice) : good(off);
}
