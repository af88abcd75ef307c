import { DEFAULT_NETWORK_SETTINGS, type GuestNetworkSettings } from "../network/guest-network.ts";

/** Settings of the container driver. */
export interface ContainerSettings {
  /** Most memory of a guest, bytes; over it, its largest process is killed. */
  readonly memoryBytes: number;
  /** Most processes and threads of a guest. */
  readonly maxProcesses: number;
  /** Most open files of a guest's process, where the host allows as many. */
  readonly maxOpenFiles: number;
  /** How long a guest may take to end by itself when it is stopped, seconds; then it is killed. */
  readonly stopGraceS: number;
  /** inotify instances that root may have on this host, at least; a guest takes about six. */
  readonly inotifyInstances: number;
  /** How long it may take to freeze a guest, milliseconds. */
  readonly freezeMs: number;
  /** Most bytes kept of what a guest's init and sshd log. */
  readonly guestLogBytes: number;
  /** How long the engine may take to answer its first ping, milliseconds. */
  readonly engineReadyMs: number;
  /** How long the engine may take for one request, milliseconds. */
  readonly engineRequestMs: number;
  /** How long what a stopped machine leaves behind may take to vanish by itself, milliseconds; then it is removed. */
  readonly settleMs: number;
  readonly network: GuestNetworkSettings;
}

/** Sane defaults; see docs/settings.md. */
export const DEFAULT_CONTAINER_SETTINGS: ContainerSettings = {
  memoryBytes: 2 * 1024 ** 3,
  maxProcesses: 4_096,
  maxOpenFiles: 1_048_576,
  stopGraceS: 3,
  inotifyInstances: 65_536,
  freezeMs: 5_000,
  guestLogBytes: 1024 ** 2,
  engineReadyMs: 15_000,
  engineRequestMs: 60_000,
  settleMs: 3_000,
  network: DEFAULT_NETWORK_SETTINGS,
};
