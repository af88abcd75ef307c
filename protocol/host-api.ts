import { z } from "zod";
import { isSnapshotId } from "./ids.ts";
import { isLinuxUser } from "./linux-user.ts";

/**
 * What the edge asks of a host. Every request carries `Authorization: Bearer <ticket>` whose `vm`, `op` and `user` must
 * match what the route does; the host takes the VM and the Linux user from the ticket, never from the request.
 *
 * | route                           | ticket op | body → answer                                      |
 * |---------------------------------|-----------|----------------------------------------------------|
 * | `PUT    /vms/:vm`               | create    | `CreateMachine` → `MachineStatus` (idempotent)     |
 * | `GET    /vms/:vm`               | read      | → `MachineStatus`                                  |
 * | `POST   /vms/:vm/start`         | start     | → `MachineStatus` (wakes; idempotent)              |
 * | `POST   /vms/:vm/stop`          | stop      | → `MachineStatus`                                  |
 * | `POST   /vms/:vm/suspend`       | suspend   | → `MachineStatus`                                  |
 * | `PUT    /vms/:vm/idle`          | update    | `IdlePolicy` → `MachineStatus` (wakes nothing)     |
 * | `DELETE /vms/:vm`               | delete    | → `MachineStatus` (`missing`; idempotent)          |
 * | `POST   /vms/:vm/resize`        | resize    | `MachineResources` → `MachineStatus`               |
 * | `POST   /vms/:vm/snapshots`     | snapshot  | `TakeSnapshot` → `{}` (idempotent)                 |
 * | `DELETE /vms/:vm/snapshots/:id` | snapshot  | → `{}` (idempotent; the VM may be gone)            |
 * | `POST   /vms/:vm/exec`          | exec      | `ExecRequest` → `ExecAnswer`                       |
 * | `PUT    /vms/:vm/jobs/:id?waitMs=` | exec   | `ExecRequest` → 200 with JOB_STATE_HEADER; a disconnect does not end it |
 * | `GET    /vms/:vm/jobs/:id`      | exec      | → 200 with JOB_STATE_HEADER; wakes nothing         |
 * | `GET    /vms/:vm/files?…`       | files     | `FileRead`, `Range` → bytes or `DirectoryListing` (see FILE_KIND_HEADER) |
 * | `PUT    /vms/:vm/files?…`       | files     | `FileWrite`, raw bytes → `{}`                      |
 * | `DELETE /vms/:vm/files?path=`   | files     | → `{}`; a directory with all that is in it         |
 * | `GET    /vms/:vm/files/status?path=` | files | → `FileStatus`                                    |
 * | `POST   /vms/:vm/files/directory?path=` | files | → `{}`; its parents too                        |
 * | `POST   /vms/:vm/files/watch?path=` | files  | → `FileEvent`s, one JSON a line, until the caller goes away |
 * | `POST   /vms/:vm/uploads`       | files     | `UploadRequest` → `UploadStatus`                   |
 * | `GET    /vms/:vm/uploads/:id`   | files     | → `UploadStatus`                                   |
 * | `PUT    /vms/:vm/uploads/:id?offset=` | files | raw bytes → `UploadStatus`                       |
 * | `POST   /vms/:vm/uploads/:id/commit` | files | → `{}`; the file takes its place                  |
 * | `DELETE /vms/:vm/uploads/:id`   | files     | → `{}`                                             |
 * | `GET    /vms/:vm/terminals`     | terminal  | → `TerminalList` of the ticket's Linux user; wakes nothing |
 * | `DELETE /vms/:vm/terminals/:id?dialect=` | terminal | → `TerminalClosed`; ends the session, wakes nothing |
 * | `GET    /vms/:vm/terminals/:id/output` | terminal | → `TerminalOutput` of the session of that name; wakes nothing |
 * | `GET    /vms/:vm/terminals/open?…` | terminal | WebSocket; the query is a `TerminalOpen`         |
 * | `GET    /vms/:vm/terminals/:id/attach?…` | terminal | WebSocket; the query is a `TerminalAttach`  |
 * | `GET    /vms/:vm/services`      | services  | → `ServiceList`                                    |
 * | `POST   /vms/:vm/services`      | services  | `ServiceUnit` → `{}`                               |
 * | `DELETE /vms/:vm/services/:name` | services | → `{}`                                             |
 * | `GET    /vms/:vm/services/:name` | services | → `ServiceStatus`                                  |
 * | `GET    /vms/:vm/services/:name/logs?lines=&since=` | services | → `ServiceLogs`                 |
 * | `POST   /vms/:vm/services/act`  | services  | `ServiceAction` → `ServiceActionAnswer`            |
 * | any     `/vms/:vm/http/:port/…` | http      | a visitor's request → the guest's answer, with GUEST_ANSWER_HEADER; or its WebSocket |
 * | `CONNECT <vm>:22`               | ssh       | → 200, then the bytes of the VM's sshd             |
 * | `POST   /tunnel/use`            | none: TUNNEL_HEADER | → 204; somebody types, so the VM is used |
 * | `GET    /tunnel/end`            | none: TUNNEL_HEADER | → `TunnelEnd`, why the host cut it, for a minute |
 *
 * `CONNECT` carries the ticket in `Proxy-Authorization` (RFC 9110 section 11.7). A failure is a JSON `Failure` with the
 * status of its `/v5` row. exec, files, terminals' sockets, http and CONNECT wake a sleeping VM first.
 *
 * A terminal session outlives its sockets, which the edge passes through untouched: so the host speaks the frames of both
 * SDK generations, and `dialect` chooses them. It also says how `:id` names a session: `v1` by name, `v5` by number or slug.
 */
/** Why a host cut a tunnel, for the person at its other end; null: it did not, or has forgotten it. */
export const tunnelEnd = z.object({ reason: z.string().nullable() });
export type TunnelEnd = Readonly<z.infer<typeof tunnelEnd>>;

const linuxUser = z.string().refine(isLinuxUser, "must be a Linux user name: ^[a-z_][a-z0-9_-]{0,31}$");

/** An account to make in the guest before create answers. */
export const guestUser = z.strictObject({
  name: linuxUser,
  uid: z.int().min(0).max(65535).optional(),
  gecos: z.string().max(256).optional(),
  groups: z
    .array(z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/))
    .max(64)
    .optional(),
  home: z.string().startsWith("/").max(4096).optional(),
  shell: z.string().startsWith("/").max(4096).optional(),
  system: z.boolean().optional(),
});
export type GuestUser = z.infer<typeof guestUser>;

/** A group to make in the guest before its users. */
export const guestGroup = z.strictObject({
  name: z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/),
  gid: z.int().min(0).max(65535).optional(),
  system: z.boolean().optional(),
});
export type GuestGroup = z.infer<typeof guestGroup>;

/** Sizes of a machine; an absent one is the host's default. A host refuses by name what its driver cannot give. */
export const machineResources = z.object({
  /** Virtual processors. */
  cpu: z.int().min(1).max(1024).optional(),
  /** MiB. */
  memory: z.int().min(64).max(16_777_216).optional(),
  /** Disk, in MiB. */
  storage: z.int().min(1).max(1_073_741_824).optional(),
});
export type MachineResources = z.infer<typeof machineResources>;

/** A file to write before create answers, owned by root; its directories are made. */
export const guestFile = z.object({
  path: z.string().startsWith("/").max(4096),
  /** Base64. */
  content: z.base64(),
  executable: z.boolean().default(false),
});
export type GuestFile = z.infer<typeof guestFile>;

/** A port of the guest that its owner opened to everybody, and the port of the VM's name that leads to it. */
export const publicPort = z.object({
  port: z.union([z.literal(443), z.literal(8081)]),
  targetPort: z.int().min(1).max(65535),
});
export type PublicPort = z.infer<typeof publicPort>;

/** One list for each VM: no two may say where one port of its name leads. */
export const publicPorts = z
  .array(publicPort)
  .max(2)
  .refine((ports) => new Set(ports.map(({ port }) => port)).size === ports.length, "names a port twice");

export const createMachine = z.object({
  users: z.array(guestUser).max(256).default([]),
  groups: z.array(guestGroup).max(256).default([]),
  resources: machineResources.default({}),
  files: z.array(guestFile).max(1024).default([]),
  /** False: the guest reaches its metadata and nothing else. */
  internet: z.boolean().default(true),
  /** The disk to begin with, of the same account and on the same host; null: the base image. */
  snapshotId: z.string().refine(isSnapshotId).nullable().default(null),
  /** The host suspends the VM after so many seconds in which nothing used it; null: never. */
  idleTimeoutSeconds: z.int().positive().max(31_536_000).nullable().default(null),
  /** Bytes through one tunnel within ten seconds that count as use; fewer are an editor's keepalives. */
  activityThresholdBytes: z.int().positive().max(1_073_741_824).nullable().default(null),
});
export type CreateMachine = z.infer<typeof createMachine>;

/** When a machine that is there is put to sleep by itself, from now on. */
export const idlePolicy = createMachine.pick({ idleTimeoutSeconds: true, activityThresholdBytes: true });
export type IdlePolicy = z.infer<typeof idlePolicy>;

/** Takes a snapshot of a VM's disk under an id that nobody has used; asking again for one that is there is success. */
export const takeSnapshot = z.object({ snapshotId: z.string().refine(isSnapshotId) });
export type TakeSnapshot = z.infer<typeof takeSnapshot>;

/** States of a VM as the host that runs it knows them. */
export const MACHINE_STATES = ["starting", "running", "suspending", "suspended", "stopped", "missing"] as const;
export type MachineState = (typeof MACHINE_STATES)[number];

export const machineStatus = z.object({
  state: z.enum(MACHINE_STATES),
  at: z.number(),
  /** What the machine has, where the driver sets it; an absent member is not limited. */
  resources: machineResources.optional(),
});
/** A machine's state on its host and when the host saw it, milliseconds since 1970 UTC. */
export type MachineStatus = z.infer<typeof machineStatus>;

export const execRequest = z.object({
  command: z.string(),
  /** Milliseconds; `null`: the host's default. */
  timeoutMs: z.int().positive().nullable().default(null),
  env: z.record(z.string(), z.string()).default({}),
  /** Base64; absent: the command reads end of file at once. */
  stdin: z.base64().optional(),
});
export type ExecRequest = z.infer<typeof execRequest>;

export const execAnswer = z.object({
  stdout: z.string(),
  stderr: z.string(),
  /** Exit status; 128 + signal number when a signal ended it; `null` when the time-out did. */
  statusCode: z.int().nullable(),
});
export type ExecAnswer = z.infer<typeof execAnswer>;

/** How long a host waits for a job's end before it says that the job runs, in milliseconds. */
export const jobWait = z.object({ waitMs: z.coerce.number().int().min(0).max(300_000).default(0) });

const ENTRY_KINDS = ["file", "directory", "symlink"] as const;

export const directoryListing = z.object({
  files: z.array(z.object({ name: z.string(), kind: z.enum(ENTRY_KINDS) })),
});
export type DirectoryListing = z.infer<typeof directoryListing>;

const permissionBits = z.int().min(0).max(0o7777);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const queryNumber = z
  .string()
  .regex(/^\d{1,15}$/)
  .transform(Number);

/** What to read; query values are text. `kind`: what it must be, or the read is refused. */
export const fileRead = z.object({ path: z.string(), kind: z.enum(["file", "directory"]).optional() });
export type FileRead = z.infer<typeof fileRead>;

/** How a file that is written gets its permission bits, and what its bytes must be. */
const fileWish = z.object({
  /** Permission bits that the file gets in any case; absent: those of the file that it replaces. */
  mode: permissionBits.nullable().default(null),
  /** Permission bits of a file that replaces none; absent: 0666 less the guest's umask. */
  newMode: permissionBits.nullable().default(null),
  /** SHA-256 of the content; if it differs the old file stays. */
  sha256: sha256.nullable().default(null),
});
export type FileWish = z.infer<typeof fileWish>;

/** What to write; query values are text. */
export const fileWrite = z.object({
  path: z.string(),
  mode: queryNumber.pipe(permissionBits).optional(),
  newMode: queryNumber.pipe(permissionBits).optional(),
  sha256: sha256.optional(),
});

/** Any other operation on one path; absent: the Linux user's home. */
export const filePath = z.object({ path: z.string().default("") });

export const fileStatus = z.object({
  /** Of what the path leads to; `symlink` for a link that leads nowhere, `other` for devices, sockets and pipes. */
  kind: z.enum([...ENTRY_KINDS, "other"]),
  /** The path itself is a symbolic link. */
  isSymlink: z.boolean(),
  size: z.int(),
  /** Permission bits. */
  mode: z.int(),
  owner: z.string(),
  group: z.string(),
  /** Milliseconds since 1970 UTC. */
  modifiedAt: z.number(),
});
export type FileStatus = z.infer<typeof fileStatus>;

/** A change in a directory that is watched, in the words of Node's `fs.watch`. `filename` is relative to that directory. */
export const fileEvent = z.object({ eventType: z.enum(["change", "rename"]), filename: z.string() });
export type FileEvent = z.infer<typeof fileEvent>;

/** A file that will come in pieces. */
export const uploadRequest = fileWish.extend({ path: z.string(), size: z.int().min(0) });
export type UploadRequest = z.infer<typeof uploadRequest>;

/** Where in the file a piece belongs, in bytes; a query value. */
export const uploadOffset = z.object({ offset: queryNumber });

export const uploadStatus = z.object({
  uploadId: z.string(),
  path: z.string(),
  size: z.int(),
  /** Bytes from the file's beginning that are in the guest. */
  receivedBytes: z.int(),
});
export type UploadStatus = z.infer<typeof uploadStatus>;

/** Form of a session's name, which 0.1.63 clients may choose. */
export const TERMINAL_NAME_PATTERN = /^[a-zA-Z0-9._-]{1,64}$/;

const dialect = z.enum(["v1", "v5"]);
export type TerminalDialect = z.infer<typeof dialect>;

/** One side of a terminal in characters, as far as the kernel counts (`struct winsize`). */
export const terminalSide = z.coerce.number().int().min(1).max(65535);
const truth = z.enum(["true", "false"]).transform((text) => text === "true");

/** A session to open; query values are text. */
export const terminalOpen = z.object({
  dialect,
  cols: terminalSide.default(80),
  rows: terminalSide.default(24),
  /** Run by the login shell; absent: the login shell itself, interactive. */
  exec: z
    .string()
    .min(1)
    .max(65536)
    .refine((text) => !text.includes("\0"), "holds a NUL character")
    .optional(),
  /** The session's name; the host chooses `pty-<n>` when absent. */
  name: z.string().optional(),
  /** Get or create: the Linux user's session of this slug if there is one. */
  slug: z.string().optional(),
  /** A shell that exits is started again in place. */
  replaceOnExit: truth.default(false),
});
export type TerminalOpen = z.infer<typeof terminalOpen>;

/** How a socket attaches to a session that is there. Without a size it follows the others'. */
export const terminalAttach = z.object({ dialect, cols: terminalSide.optional(), rows: terminalSide.optional() });
export type TerminalAttach = z.infer<typeof terminalAttach>;

/** How a session is named by who closes it. */
export const terminalClose = z.object({ dialect });

export const terminalClosed = z.object({ number: z.int(), name: z.string(), exitCode: z.int().nullable() });
/** `exitCode`: null when it still ran, or nobody knows. */
export type TerminalClosed = z.infer<typeof terminalClosed>;

/** The last output of a session: as the terminal got it, and as lines of plain text without its control sequences. */
export const terminalOutput = z.object({ output: z.string(), lines: z.array(z.string()) });
export type TerminalOutput = z.infer<typeof terminalOutput>;

const terminalRow = terminalClosed.extend({
  slug: z.string().nullable(),
  linuxUser: z.string(),
  running: z.boolean(),
  /** Milliseconds since 1970 UTC; null while it runs. */
  exitedAt: z.number().nullable(),
  cols: z.int(),
  rows: z.int(),
  exec: z.string().nullable(),
  /** Milliseconds since 1970 UTC. */
  createdAt: z.number(),
  /** Sockets. */
  attached: z.int(),
  /** It is alive in a VM that sleeps: attaching wakes it. */
  suspended: z.boolean(),
});
export type TerminalRow = z.infer<typeof terminalRow>;

export const terminalList = z.object({ sessions: z.array(terminalRow) });
export type TerminalList = z.infer<typeof terminalList>;

/** What a service may be called, without `.service`. */
export const SERVICE_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;

const unitName = z.string().regex(/^[A-Za-z0-9:_.\\@-]{1,255}$/, "must be a unit's name");
/** Text that stays on its line of a unit file. */
const unitText = z
  .string()
  .min(1)
  .max(4096)
  .regex(/^[^\p{Cc}]*$/u, "must not hold control characters");
const seconds = z.number().positive().max(31_536_000);

/** A systemd service to make in the guest (systemd.service(5), systemd.unit(5)). */
export const serviceUnit = z.object({
  /** Checked by the host, which has a code of its own for it. */
  name: z.string().max(256),
  mode: z.enum(["oneshot", "service"]),
  /** Command lines in systemd's form, in order. Of a `service` the last one is the service; those before prepare it. */
  exec: z.array(unitText).min(1).max(64),
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string().max(32_768)).default({}),
  user: linuxUser.optional(),
  group: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]{0,31}$/)
    .optional(),
  workdir: unitText.startsWith("/").optional(),
  after: z.array(unitName).max(64).default([]),
  requires: z.array(unitName).max(64).default([]),
  onFailure: z.array(unitName).max(64).default([]),
  wantedBy: z.array(unitName).min(1).max(64).default(["multi-user.target"]),
  /** Started now and at every boot. */
  enable: z.boolean().default(true),
  timeoutSec: seconds.optional(),
  remainAfterExit: z.boolean().default(false),
  /** The service says itself when it is ready (sd_notify(3)). */
  readySignal: z.boolean().default(false),
  watchdogSec: seconds.optional(),
  restartPolicy: z
    .strictObject({
      policy: z.enum(["no", "on-failure", "always", "on-abnormal"]),
      restartSec: seconds.optional(),
      startLimitBurst: z.int().min(0).max(1_000_000).optional(),
      startLimitIntervalSec: z.number().min(0).max(31_536_000).optional(),
    })
    .optional(),
});
export type ServiceUnit = z.infer<typeof serviceUnit>;

export const serviceAction = z.object({
  verb: z.enum(["start", "stop", "restart"]),
  names: z.array(z.string().max(256)).min(1).max(64),
});
export type ServiceAction = z.infer<typeof serviceAction>;

export const serviceList = z.object({ services: z.array(z.object({ name: z.string() })) });
export type ServiceList = z.infer<typeof serviceList>;

/** As `systemctl show` says it. */
export const serviceStatus = z.object({
  name: z.string(),
  activeState: z.string(),
  subState: z.string(),
  loadState: z.string(),
  description: z.string(),
});
export type ServiceStatus = z.infer<typeof serviceStatus>;

export const serviceLogsQuery = z.object({
  lines: z.coerce.number().int().min(1).max(10_000).default(100),
  /** systemd.time(7), for example `2026-01-31 12:00:00` or `-1h`. */
  since: z
    .string()
    .regex(/^[A-Za-z0-9 :.+-]{1,64}$/, "must be a time")
    .optional(),
});
export type ServiceLogsQuery = z.infer<typeof serviceLogsQuery>;

export const serviceLogs = z.object({
  logs: z.array(
    z.object({ message: z.string(), timestamp: z.string(), priority: z.int().optional(), unit: z.string().optional() }),
  ),
});
export type ServiceLogs = z.infer<typeof serviceLogs>;

export const serviceActionAnswer = z.object({
  results: z.array(z.object({ name: z.string(), success: z.boolean(), message: z.string() })),
});
export type ServiceActionAnswer = z.infer<typeof serviceActionAnswer>;
