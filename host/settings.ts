import { z } from "zod";
import { portNumber, readSettings, wholeNumber } from "../service/settings.ts";

const MINUTE_MS = 60_000;
const MIB = 1024 * 1024;

const baseUrl = z.url({ protocol: /^https?$/ }).transform((url) => url.replace(/\/+$/, ""));

const addressAndPort = z
  .string()
  .regex(/^(\[[0-9a-fA-F:]+\]|[^:]+):\d{1,5}$/, "must be address:port, an IPv6 address in brackets")
  .refine((text) => listenAddress(text).port <= 65_535, "the port must be at most 65535");

/** Every setting of a host agent, by the name of its environment variable. Times in milliseconds, sizes in bytes. */
export const hostEnvironment = z.object({
  /** Base URL of the edge. */
  POSTERN_EDGE_URL: baseUrl,
  /** File with the join token or service key that the host enrols with; readable by its owner only. Read until it has. */
  POSTERN_SERVICE_KEY_FILE: z.string().min(1),
  /** Folder for what must survive a restart: the host's id, the VMs' records, the driver's disks. */
  POSTERN_HOST_STATE: z.string().min(1),
  /** Folder for what can be made again, such as the base image; may be shared by several hosts. */
  POSTERN_CACHE: z.string().min(1).default("/var/cache/postern"),
  /**
   * How machines are made: `qemu`, `container`, or `auto` for what suits the host (docs/drivers.md). `static` makes none: it has
   * those that `POSTERN_STATIC_MACHINES` names.
   */
  POSTERN_DRIVER: z.enum(["auto", "container", "qemu", "static"]).default("auto"),
  /**
   * Whether new containers have users and groups of their own, so that root in one is nobody on the host: `auto` where a try at the
   * start shows that the host can, `on`, or `off`.
   */
  POSTERN_CONTAINER_USER_NAMESPACES: z.enum(["auto", "on", "off"]).default("auto"),
  /** Memory of a virtual machine for which none was chosen, MiB. */
  POSTERN_QEMU_MEMORY_MIB: wholeNumber(512, 256),
  /** Processors of a virtual machine for which none were chosen. */
  POSTERN_QEMU_CPUS: wholeNumber(1, 1),
  /** Size of a virtual machine's disk, GiB; it takes what is in it. */
  POSTERN_QEMU_DISK_GIB: wholeNumber(8, 2),
  /** How long a virtual machine may take to boot. */
  POSTERN_QEMU_BOOT_MS: wholeNumber(120_000, 1),
  /** How long a virtual machine may take to end by itself when it is stopped; then it is ended. */
  POSTERN_QEMU_STOP_GRACE_MS: wholeNumber(15_000),
  /** How long the boot that shows whether KVM works may take. */
  POSTERN_QEMU_PROBE_MS: wholeNumber(12_000, 1),
  /** File that names the machines of the driver `static`; see docs/drivers.md. */
  POSTERN_STATIC_MACHINES: z.string().min(1).optional(),
  /** Longest connection and login of the agent at a static machine. */
  POSTERN_STATIC_CONNECT_MS: wholeNumber(10_000, 1),
  /** Between keepalives to a static machine; after three without an answer it counts as gone. */
  POSTERN_STATIC_KEEPALIVE_MS: wholeNumber(15_000, 1),
  /** Longest run of a static machine's wake command. */
  POSTERN_STATIC_WAKE_COMMAND_MS: wholeNumber(30_000, 1),
  /** From the end of its wake command until a static machine must answer. */
  POSTERN_STATIC_WAKE_MS: wholeNumber(60_000, 1),
  /** Between two tries to reach a static machine that wakes. */
  POSTERN_STATIC_WAKE_POLL_MS: wholeNumber(500, 1),
  /** `address:port` to listen on for the edge and the forwarders; port 0 takes a free one. */
  POSTERN_HOST_LISTEN: addressAndPort.default("127.0.0.1:0"),
  /** Base URL at which edge and forwarders reach this host. Default: the listening address. */
  POSTERN_HOST_PUBLIC_URL: baseUrl.optional(),
  /** `address:port` of Prometheus metrics at `/metrics`; off without it. Keep it private: it asks nobody who they are. */
  POSTERN_HOST_METRICS_LISTEN: addressAndPort.optional(),
  /**
   * What VMs may not fill of the disk of `POSTERN_HOST_STATE`, MiB. With less than that free the host makes, wakes and captures no
   * VM, and its region places none on it.
   */
  POSTERN_HOST_DISK_RESERVE_MIB: wholeNumber(2_048),
  /** Files that VMs may not make on that disk, likewise. */
  POSTERN_HOST_FILES_RESERVE: wholeNumber(20_000),
  /** Most VMs, sleeping ones included. */
  POSTERN_HOST_CAPACITY: wholeNumber(50, 1),
  /** TCP port of the metadata server on the guests' network; 0 takes a free one. */
  POSTERN_METADATA_PORT: portNumber(0),
  /** From asking the driver for a machine until its sshd must answer. */
  POSTERN_WAKE_TIMEOUT_MS: wholeNumber(60_000, 1),
  /** Between two looks whether a starting machine's sshd answers. */
  POSTERN_WAKE_POLL_MS: wholeNumber(20, 1),
  /** Between two looks for VMs that have been idle for as long as they may. */
  POSTERN_IDLE_SWEEP_MS: wholeNumber(10_000, 1),
  /** Between two looks at what the machine has left, for placement. */
  POSTERN_LOAD_SWEEP_MS: wholeNumber(5_000, 1),
  /** Bytes through one tunnel between two looks that count as use of a VM that names no number: more than keepalives. */
  POSTERN_IDLE_TUNNEL_BYTES: wholeNumber(4_096, 1),
  /** How long a VM stays awake when bytes of an end-to-end SSH session woke it, which may be a mere keepalive. */
  POSTERN_IDLE_GLANCE_MS: wholeNumber(5_000),
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
  /** Bytes of one tunnel's client that are held while its VM sleeps and wakes; then the client has to wait. */
  POSTERN_TUNNEL_HELD_BYTES: wholeNumber(64 * 1024, 1),
  /** Before a VM sleeps: longest wait until it has acknowledged what tunnels sent it. */
  POSTERN_TUNNEL_SETTLE_MS: wholeNumber(1_000),
  /** How long the reason is kept for which a tunnel was cut; its forwarder asks at once. */
  POSTERN_TUNNEL_END_KEEP_MS: wholeNumber(MINUTE_MS),
  /** HTTP requests and WebSockets into one VM by its name at once. */
  POSTERN_VM_VISITS: wholeNumber(512, 1),
  /** Longest wait for a guest's server to begin its answer. */
  POSTERN_GUEST_ANSWER_MS: wholeNumber(5 * MINUTE_MS, 1),
  /** Longest silence of such an exchange that is no WebSocket. */
  POSTERN_GUEST_SILENCE_MS: wholeNumber(10 * MINUTE_MS, 1),
  /** How long after a VM came up its port may refuse while the server there starts. */
  POSTERN_GUEST_PORT_BOOT_MS: wholeNumber(10_000),
  /** Between two tries meanwhile. */
  POSTERN_GUEST_PORT_POLL_MS: wholeNumber(100, 1),
  /** How long an idle HTTP connection to a guest is kept. */
  POSTERN_GUEST_CONNECTION_KEEP_MS: wholeNumber(4_000, 1),
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
  /** Commands that run in the background of one VM at once. */
  POSTERN_VM_JOBS: wholeNumber(64, 1),
  /** How long the result of such a command is kept after its end. */
  POSTERN_JOB_KEEP_MS: wholeNumber(10 * MINUTE_MS),
  /** Most bytes of all such results on disk; over it the oldest goes first. */
  POSTERN_JOB_RESULT_BYTES: wholeNumber(2 * 1024 * MIB, 1),
  /** Terminal sessions that run in one VM at once; as many exited ones are kept. */
  POSTERN_VM_TERMINALS: wholeNumber(64, 1),
  /** Last output of a terminal session, shown to who attaches. */
  POSTERN_TERMINAL_SCROLLBACK_BYTES: wholeNumber(256 * 1024),
  /** Output that waits for a socket before it counts as behind; once all of a session's are, the guest is not read. */
  POSTERN_TERMINAL_HIGH_WATER_BYTES: wholeNumber(512 * 1024, 1),
  /** Most output that waits for one socket; one that lags further behind the others is closed. Over the high water. */
  POSTERN_TERMINAL_BACKLOG_BYTES: wholeNumber(4 * MIB, 1),
  /** Largest frame that a terminal's client may send. */
  POSTERN_TERMINAL_FRAME_BYTES: wholeNumber(MIB, 1),
  /** Between pings to a terminal's socket; one that shows no life between two of them is closed. */
  POSTERN_TERMINAL_PING_MS: wholeNumber(30_000, 1),
  /** How long an exited terminal session is kept. */
  POSTERN_TERMINAL_KEEP_MS: wholeNumber(10 * MINUTE_MS),
  /** Between two looks whether machines with terminal sessions still run. */
  POSTERN_TERMINAL_CHECK_MS: wholeNumber(15_000, 1),
  /** Of a shell that is replaced when it exits: exits in quick succession that are borne. */
  POSTERN_TERMINAL_QUICK_EXITS: wholeNumber(5, 1),
  /** Such an exit is quick when the shell lived for less than this. */
  POSTERN_TERMINAL_QUICK_EXIT_MS: wholeNumber(2_000),
  /** Longest wait for an answer of the edge: to enrol, when VMs' states are told, and whether a live session may go on. */
  POSTERN_EDGE_TIMEOUT_MS: wholeNumber(8_000, 1),
  /** First wait before VMs' states are told to the edge again that it did not note; doubles with each try. */
  POSTERN_STATES_RETRY_MS: wholeNumber(1_000, 1),
  /** Longest such wait. */
  POSTERN_STATES_RETRY_MAX_MS: wholeNumber(15_000, 1),
  /** Between two tries to enrol while the edge is out of reach. */
  POSTERN_ENROL_RETRY_MS: wholeNumber(1_000, 1),
  /** How long the edge may be out of reach before a terminal's socket under a raised floor is cut. */
  POSTERN_RECHECK_DEADLINE_MS: wholeNumber(20_000),
  /** Between tries to check such a socket. */
  POSTERN_RECHECK_RETRY_MS: wholeNumber(1_000, 1),
  /** Between checks of every terminal's socket while the feed is silent. */
  POSTERN_SILENT_RECHECK_MS: wholeNumber(10_000, 1),
  /** For how long a live session may go on unconfirmed while the edge is out of reach (docs/consistency.md); 0: as long as that lasts. */
  POSTERN_UNCONFIRMED_SESSION_MS: wholeNumber(300_000),
  /** Largest JSON body. */
  POSTERN_HOST_JSON_BYTES: wholeNumber(4 * MIB, 1),
  /** Largest file that may be written. */
  POSTERN_FILE_BYTES: wholeNumber(16 * 1024 * MIB, 1),
  /** How long a file's bytes may stop arriving while it is written. */
  POSTERN_BODY_IDLE_MS: wholeNumber(20_000, 1),
  /** Largest piece of a file that comes in pieces. */
  POSTERN_UPLOAD_CHUNK_BYTES: wholeNumber(256 * MIB, 1),
  /** Unfinished uploads in pieces of one VM. */
  POSTERN_VM_UPLOADS: wholeNumber(64, 1),
  /** How long an unfinished upload is kept from its beginning. */
  POSTERN_UPLOAD_KEEP_MS: wholeNumber(24 * 60 * MINUTE_MS, 1),
  /** Between two looks for uploads that nobody will finish. */
  POSTERN_UPLOAD_SWEEP_MS: wholeNumber(10 * MINUTE_MS, 1),
  /** Watches of files in one VM at once. */
  POSTERN_VM_WATCHES: wholeNumber(16, 1),
  /** Longest wait until a directory and all below it are watched. */
  POSTERN_WATCH_START_MS: wholeNumber(30_000, 1),
  /** Longest silence of a watch. The edge notices that a caller went away when it has something to send, the second time. */
  POSTERN_WATCH_PING_MS: wholeNumber(5_000, 1),
  /** Time for a request's headers to arrive. */
  POSTERN_HEADERS_TIMEOUT_MS: wholeNumber(10_000, 1),
  /** Time for a whole request to arrive, large uploads included. */
  POSTERN_REQUEST_TIMEOUT_MS: wholeNumber(60 * MINUTE_MS, 1),
  /** How long an idle HTTP connection is kept. */
  POSTERN_HTTP_KEEPALIVE_MS: wholeNumber(65_000, 1),
  /** On shutdown: how long operations may take to end after they were told to, and then the last report of VMs' states. */
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
