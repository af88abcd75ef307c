import { z } from "zod";
import { MACHINE_STATES } from "./feed.ts";
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
 * | `DELETE /vms/:vm`               | delete    | → `MachineStatus` (`missing`; idempotent)          |
 * | `POST   /vms/:vm/exec`          | exec      | `ExecRequest` → `ExecAnswer`                       |
 * | `GET    /vms/:vm/files?path=`   | files     | → bytes or `DirectoryListing` (see FILE_KIND_HEADER) |
 * | `PUT    /vms/:vm/files?path=`   | files     | raw bytes → `{}`                                   |
 * | `CONNECT <vm>:22`               | ssh       | → 200, then the bytes of the VM's sshd             |
 *
 * `CONNECT` carries the ticket in `Proxy-Authorization` (RFC 9110 section 11.7). A failure is a JSON `Failure` with the
 * status of its `/v5` row. exec, files and CONNECT wake a sleeping VM first.
 */
const linuxUser = z.string().refine(isLinuxUser);

/** An account to make in the guest before create answers. */
export const guestUser = z.object({
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
export const guestGroup = z.object({
  name: z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/),
  gid: z.int().min(0).max(65535).optional(),
  system: z.boolean().optional(),
});
export type GuestGroup = z.infer<typeof guestGroup>;

export const createMachine = z.object({
  users: z.array(guestUser).max(256).default([]),
  groups: z.array(guestGroup).max(256).default([]),
});
export type CreateMachine = z.infer<typeof createMachine>;

export const machineStatus = z.object({ state: z.enum(MACHINE_STATES), at: z.number() });
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

export const directoryListing = z.object({
  files: z.array(z.object({ name: z.string(), kind: z.enum(["file", "directory", "symlink"]) })),
});
export type DirectoryListing = z.infer<typeof directoryListing>;
