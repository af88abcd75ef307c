import { DEFAULT_NETWORK_SETTINGS, type GuestNetworkSettings } from "../network/guest-network.ts";

/** Settings of the container driver. */
export interface ContainerSettings {
  /** Whether guests have ids of users and groups of their own (user namespaces); `auto`: where a try shows that they can. */
  readonly userNamespaces: "auto" | "on" | "off";
  /**
   * Images over each other from which on a snapshot is made one image for itself. The engine names each one's folder in a mount, whose
   * options fill a page of 4,096 bytes, and with ids mapped such a name has up to 200.
   */
  readonly mostImages: number;
  /** Most memory of a guest, bytes; over it, its largest process is killed. */
  readonly memoryBytes: number;
  /** Most processes and threads of a guest. */
  readonly maxProcesses: number;
  /** Most open files of a guest's process, where the host allows as many. */
  readonly maxOpenFiles: number;
  /** How long a guest may take to end by itself when it is stopped, seconds; then it is killed. */
  readonly stopGraceS: number;
  /**
   * inotify instances, and files watched, that root may have on this host, at least. Those of all guests count as root's, and a guest
   * takes about six; what bounds each is its memory, which the kernel charges for them.
   */
  readonly inotifyInstances: number;
  readonly inotifyWatches: number;
  /** How long it may take to freeze a guest, milliseconds. */
  readonly freezeMs: number;
  /** Most bytes kept of what a guest's init and sshd log. */
  readonly guestLogBytes: number;
  /** How long the engine may take to answer its first ping, milliseconds. */
  readonly engineReadyMs: number;
  /** How long the engine may take for one request, milliseconds. */
  readonly engineRequestMs: number;
  /** How long the engine may take to copy a disk, milliseconds; the guest is frozen meanwhile. */
  readonly captureMs: number;
  /** How long what a stopped machine leaves behind may take to vanish by itself, milliseconds; then it is removed. */
  readonly settleMs: number;
  readonly network: GuestNetworkSettings;
}

/** Sane defaults; see docs/settings.md. */
export const DEFAULT_CONTAINER_SETTINGS: ContainerSettings = {
  userNamespaces: "auto",
  mostImages: 14,
  memoryBytes: 2 * 1024 ** 3,
  maxProcesses: 4_096,
  maxOpenFiles: 1_048_576,
  stopGraceS: 3,
  inotifyInstances: 16_777_216,
  inotifyWatches: 268_435_456,
  freezeMs: 5_000,
  guestLogBytes: 1024 ** 2,
  engineReadyMs: 15_000,
  engineRequestMs: 60_000,
  captureMs: 300_000,
  settleMs: 3_000,
  network: DEFAULT_NETWORK_SETTINGS,
};
