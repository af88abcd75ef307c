import { readFile } from "node:fs/promises";
import { z } from "zod";
import { DriverError } from "../driver.ts";

/** The part of a seccomp profile (containers/common, `pkg/seccomp`) that is looked at; the rest passes through. */
const seccompRule = z.looseObject({ names: z.array(z.string()), action: z.string() });
const seccompArch = z.looseObject({ architecture: z.string(), subArchitectures: z.array(z.string()).nullable() });
const seccompProfile = z.looseObject({ syscalls: z.array(seccompRule), archMap: z.array(seccompArch) });
export type SeccompProfile = z.infer<typeof seccompProfile>;

/** Where podman's own default lies: a host's, then its package's. */
const DEFAULT_PROFILES = ["/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"];

/** Flags of clone(2) and unshare(2) that make a namespace. */
const NAMESPACE_FLAGS = {
  CLONE_NEWTIME: 0x80,
  CLONE_NEWNS: 0x20000,
  CLONE_NEWCGROUP: 0x2000000,
  CLONE_NEWUTS: 0x4000000,
  CLONE_NEWIPC: 0x8000000,
  CLONE_NEWUSER: 0x10000000,
  CLONE_NEWPID: 0x20000000,
  CLONE_NEWNET: 0x40000000,
};
/** The low byte of clone's flags is the signal of the child's end, where unshare has this flag. */
const ONLY_UNSHARE: readonly string[] = ["CLONE_NEWTIME"];

/** Address families of socket(2) that a guest may try: unix, IPv4, IPv6, netlink, packet (refused by the kernel without CAP_NET_RAW). */
const FAMILIES = [1, 2, 10, 16, 17];
/** Over every family that Linux has; what is beyond is refused as an unknown call. */
const MOST_FAMILIES = 64;

const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

/**
 * Answered anew below, or not at all. Keys of the kernel belong to a user id, so that roots of all guests and of the host would
 * share them. `clone3` has its flags in memory, where no filter sees them; C libraries then use clone. `socketcall` hides the family.
 */
const TAKEN_OUT = ["clone", "clone3", "unshare", "socket", "socketcall", "add_key", "keyctl", "request_key"];

/**
 * Refused by not being there: they enter or mount what a guest has no part in. The kernel asks for capabilities that no guest has, but
 * only after it has looked at what it was given.
 */
const MOUNTING = ["setns", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"];

/** Whose `socketcall` is how every library opens sockets, of a family that no filter sees. */
const HIDES_FAMILY: readonly string[] = ["SCMP_ARCH_X86", "SCMP_ARCH_X32"];

/**
 * podman's default filter of system calls, narrowed: no namespaces of a guest's own, in which its users would have every capability
 * over kernel code that is not made for strangers; no keyrings; no sockets that leave the network namespace (vsock reaches the
 * hypervisor of a host that is a virtual machine) or that load rare protocols, and so no 32-bit programs of x86.
 */
export function narrowSeccomp(profile: SeccompProfile): SeccompProfile {
  const kept = profile.syscalls
    .map((rule) => ({ ...rule, names: rule.names.filter((name) => !TAKEN_OUT.includes(name) && !MOUNTING.includes(name)) }))
    .filter((rule) => rule.names.length > 0);
  const archMap = profile.archMap.map(({ subArchitectures, ...arch }) => ({
    ...arch,
    subArchitectures: subArchitectures?.filter((name) => !HIDES_FAMILY.includes(name)) ?? null,
  }));
  return { ...profile, archMap, syscalls: [...kept, ...namespaceRules(), ...familyRules(), fails("clone3", ENOSYS, [])] };
}

function namespaceRules() {
  return ["clone", "unshare"].flatMap((name) => {
    const flags = Object.entries(NAMESPACE_FLAGS).flatMap(([flag, bit]) =>
      name === "clone" && ONLY_UNSHARE.includes(flag) ? [] : [bit],
    );
    const all = flags.reduce((mask, bit) => mask + bit, 0);
    const masked = (value: number, valueTwo: number) => [{ index: 0, value, valueTwo, op: "SCMP_CMP_MASKED_EQ" }];
    return [allows(name, masked(all, 0)), ...flags.map((bit) => fails(name, EPERM, masked(bit, bit)))];
  });
}

function familyRules() {
  return Array.from({ length: MOST_FAMILIES }, (_, family) => {
    const is = [{ index: 0, value: family, valueTwo: 0, op: "SCMP_CMP_EQ" }];
    return FAMILIES.includes(family) ? allows("socket", is) : fails("socket", EAFNOSUPPORT, is);
  });
}

interface Comparison {
  readonly index: number;
  readonly value: number;
  readonly valueTwo: number;
  readonly op: string;
}

function allows(name: string, args: readonly Comparison[]) {
  return { names: [name], action: "SCMP_ACT_ALLOW", args };
}

function fails(name: string, errnoRet: number, args: readonly Comparison[]) {
  return { names: [name], action: "SCMP_ACT_ERRNO", errnoRet, args };
}

/** The profile for guests as JSON. Throws `DriverError` `engine` where podman's own is missing. */
export async function guestSeccomp(): Promise<string> {
  for (const path of DEFAULT_PROFILES) {
    const text = await readFile(path, "utf8").catch(() => null);
    if (text !== null) return JSON.stringify(narrowSeccomp(seccompProfile.parse(JSON.parse(text))));
  }
  throw new DriverError("engine", `podman's filter of system calls is at none of ${DEFAULT_PROFILES.join(", ")}: reinstall podman`);
}
