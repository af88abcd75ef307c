import { DEFAULT_NETWORK_SETTINGS, type GuestNetworkSettings } from "../../network/guest-network.ts";

/** Settings of the qemu driver. */
export interface QemuSettings {
  /** Memory of a machine for which none was chosen, MiB. The golden machine has as much. */
  readonly memoryMib: number;
  /** Processors likewise. */
  readonly cpus: number;
  /** Size of a machine's disk, GiB; it takes what is in it. */
  readonly diskGib: number;
  /** Size of QEMU's cache of translated code without KVM, MiB. */
  readonly translationCacheMib: number;
  /** How long the guest of a new machine may take until it is up, milliseconds. */
  readonly bootMs: number;
  /** How long a copy of the golden machine may take to become a machine of its own, milliseconds. */
  readonly adoptMs: number;
  /** How long a guest may take to write its disk's caches before it is captured or sleeps, milliseconds; then it goes on without. */
  readonly syncMs: number;
  /** How long a guest may take to end by itself when it is stopped, milliseconds; then it is ended. */
  readonly stopGraceMs: number;
  /** How long memory may take to be written or read, milliseconds. */
  readonly memoryMs: number;
  /** How long QEMU may take for one request, milliseconds. */
  readonly requestMs: number;
  /** How long the boot that shows whether KVM works may take, milliseconds. */
  readonly probeMs: number;
  readonly network: GuestNetworkSettings;
}

/** Sane defaults; see docs/drivers.md. */
export const DEFAULT_QEMU_SETTINGS: QemuSettings = {
  memoryMib: 512,
  cpus: 1,
  diskGib: 8,
  translationCacheMib: 64,
  bootMs: 120_000,
  adoptMs: 60_000,
  syncMs: 5_000,
  stopGraceMs: 15_000,
  memoryMs: 60_000,
  requestMs: 20_000,
  probeMs: 12_000,
  network: DEFAULT_NETWORK_SETTINGS,
};
