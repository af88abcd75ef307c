import { z } from "zod";
import { readSettings, wholeNumber } from "../service/settings.ts";

const MINUTE_MS = 60_000;
const MIB = 1024 * 1024;

const baseUrl = z.url({ protocol: /^https?$/ }).transform((url) => url.replace(/\/+$/, ""));

/** Every setting of a host agent, by the name of its environment variable. Times in milliseconds, sizes in bytes. */
const hostEnvironment = z.object({
  /** Base URL of the edge. */
  POSTERN_EDGE_URL: baseUrl,
  /** File that holds the service key of the host's region; readable by its owner only. */
  POSTERN_SERVICE_KEY_FILE: z.string().min(1),
  /** Folder for what must survive a restart: the host's id, the VMs' records, the driver's disks. */
  POSTERN_HOST_STATE: z.string().min(1),
  /** Folder for what can be made again, such as the base image; may be shared by several hosts. */
  POSTERN_CACHE: z
    .string()
    .min(1)
    .default("/var/cache/postern"),
  /** How machines are made. */
  POSTERN_DRIVER: z.enum(["container"]).default("container"),
  /** `address:port` to listen on for the edge and the forwarders; port 0 takes a free one. */
  POSTERN_HOST_LISTEN: z
    .string()
    .regex(/^(\[[0-9a-fA-F:]+\]|[^:]+):\d{1,5}$/, "address:port")
    .default("127.0.0.1:0"),
  /** Base URL at which edge and forwarders reach this host. Default: the listening address. */
  POSTERN_HOST_PUBLIC_URL: baseUrl.optional(),
  /** Most VMs, sleeping ones included. */
  POSTERN_HOST_CAPACITY: wholeNumber(50, 1),
  /** TCP port of the metadata server on the guests' network; 0 takes a free one. */
  POSTERN_METADATA_PORT: wholeNumber(0),
  /** From asking the driver for a machine until its sshd must answer. */
  POSTERN_WAKE_TIMEOUT_MS: wholeNumber(60_000, 1),
  /** Between two looks whether a starting machine's sshd answers. */
  POSTERN_WAKE_POLL_MS: wholeNumber(20, 1),
  /** How long a key of a forwarder is admitted by the guest. */
  POSTERN_KEY_LIFETIME_MS: wholeNumber(60_000, 1),
  /** Longest login of the host itself in a guest. */
  POSTERN_GUEST_LOGIN_TIMEOUT_MS: wholeNumber(20_000, 1),
  /** A connection to a guest that nothing uses is closed after this. */
  POSTERN_GUEST_IDLE_MS: wholeNumber(30_000),
  /** Between keepalives on connections to guests; three without an answer end the connection. */
  POSTERN_GUEST_KEEPALIVE_MS: wholeNumber(15_000, 1),
  /** Channels on one connection to a guest; the guest's `MaxSessions` must allow as many. */
  POSTERN_GUEST_CHANNELS: wholeNumber(8, 1),
  /** Operations that run in one VM at once; the rest wait their turn. */
  POSTERN_VM_OPERATIONS: wholeNumber(32, 1),
  /** Operations that may wait for their turn in one VM; more are refused. */
  POSTERN_VM_WAITING: wholeNumber(2_000),
  /** SSH tunnels into one VM at once. */
  POSTERN_VM_TUNNELS: wholeNumber(512, 1),
  /** Longest wait for a tunnel's connection to a guest's sshd. */
  POSTERN_TUNNEL_CONNECT_TIMEOUT_MS: wholeNumber(10_000, 1),
  /** TCP keepalive of tunnels, so that a peer that vanished is noticed. */
  POSTERN_TUNNEL_KEEPALIVE_MS: wholeNumber(30_000, 1),
  /** Time for a command that names none. */
  POSTERN_EXEC_TIMEOUT_MS: wholeNumber(5 * MINUTE_MS, 1),
  /** Longest time that a command may ask for. */
  POSTERN_EXEC_MAX_TIMEOUT_MS: wholeNumber(24 * 60 * MINUTE_MS, 1),
  /** Most bytes of standard output and standard error together. */
  POSTERN_EXEC_OUTPUT_BYTES: wholeNumber(16 * MIB, 1),
  /** After a command ended: how long its output may pause before the rest (held open by a background child) is given up. */
  POSTERN_EXEC_DRAIN_MS: wholeNumber(500),
  /** After SIGKILL: how long until the answer no longer waits for the command to be gone. */
  POSTERN_EXEC_KILL_GRACE_MS: wholeNumber(2_000),
  /** Largest JSON body. */
  POSTERN_HOST_JSON_BYTES: wholeNumber(4 * MIB, 1),
  /** Largest file that may be written. */
  POSTERN_FILE_BYTES: wholeNumber(16 * 1024 * MIB, 1),
  /** Time for a request's headers to arrive. */
  POSTERN_HEADERS_TIMEOUT_MS: wholeNumber(10_000, 1),
  /** Time for a whole request to arrive, large uploads included. */
  POSTERN_REQUEST_TIMEOUT_MS: wholeNumber(60 * MINUTE_MS, 1),
  /** How long an idle HTTP connection is kept. */
  POSTERN_HTTP_KEEPALIVE_MS: wholeNumber(65_000, 1),
  /** On shutdown: how long operations may take to end after they were told to. */
  POSTERN_CLOSE_GRACE_MS: wholeNumber(3_000),
});

/** Settings of a host agent; see `docs/settings.md`. */
export type HostSettings = Readonly<z.infer<typeof hostEnvironment>>;

/** Reads the settings from environment variables. Throws `SettingsError` naming every bad one. */
export function readHostSettings(env: NodeJS.ProcessEnv): HostSettings {
  return readSettings(hostEnvironment, env);
}

/** Splits `address:port`; an IPv6 address is in brackets. */
export function listenAddress(listen: string): { address: string; port: number } {
  const colon = listen.lastIndexOf(":");
  return { address: listen.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(listen.slice(colon + 1)) };
}
