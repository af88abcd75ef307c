import { DriverError } from "../driver.ts";
import type { KvmAnswer } from "./qemu/kvm-probe.ts";

/** What a host has to make machines with. */
export interface HostMeans {
  /** The driver that made the machines that are there; null on a new host. Another one would not find them. */
  readonly before: Choice["driver"] | null;
  readonly root: boolean;
  readonly podman: boolean;
  readonly qemu: boolean;
  /** Whether a kernel really comes up under KVM; asked only where QEMU is there. May take a boot. */
  readonly kvm: () => Promise<KvmAnswer>;
}

export interface Choice {
  readonly driver: "qemu" | "container";
  /** For the operator's log, a short sentence. */
  readonly why: string;
}

/**
 * The driver that `auto` means: the one that it meant before, else virtual machines where KVM works, else containers, which start in a second where a virtual
 * machine without KVM takes five, else those. Throws `DriverError` `engine` that says what to install.
 */
export async function chooseDriver(means: HostMeans): Promise<Choice> {
  if (means.before !== null) return { driver: means.before, why: "it made the machines of this host's state folder" };
  if (!means.root) throw new DriverError("engine", "a host agent that makes machines must run as root");
  const kvm: KvmAnswer = means.qemu ? await means.kvm() : { works: false, why: "qemu-system-x86_64 is not installed" };
  if (kvm.works) return { driver: "qemu", why: "KVM works: a kernel came up on it" };
  if (means.podman) return { driver: "container", why: `no virtual machines by KVM: ${kvm.why}` };
  if (means.qemu) return { driver: "qemu", why: `podman is not installed, so QEMU runs without KVM: ${kvm.why}` };
  throw new DriverError("engine", "nothing to make machines with: install podman, or qemu-system-x86 and qemu-utils");
}
