/** Everything a ticket can allow its holder to do with one VM. */
export const OPERATIONS = [
  "read",
  "exec",
  "files",
  "terminal",
  "services",
  "ssh",
  "http",
  "start",
  "create",
  "stop",
  "suspend",
  "update",
  "resize",
  "snapshot",
  "delete",
] as const;

export type Operation = (typeof OPERATIONS)[number];

const TOKEN_OPERATIONS: ReadonlySet<Operation> = new Set(["read", "exec", "files", "terminal", "services", "ssh", "http", "start"]);
const LINUX_USER_OPERATIONS: ReadonlySet<Operation> = new Set(["exec", "files", "terminal", "services", "ssh"]);

const IMAGE_USER_OPERATIONS: ReadonlySet<Operation> = new Set(["exec", "terminal"]);

/** Whether the operation may leave it to the guest as whom it acts (`IMAGE_USER`). */
export function mayActAsImageUser(operation: Operation): boolean {
  return IMAGE_USER_OPERATIONS.has(operation);
}

/** Whether an access token may ever do this; the rest is for API keys, whatever the grant says. */
export function isOpenToAccessTokens(operation: Operation): boolean {
  return TOKEN_OPERATIONS.has(operation);
}

/** Whether the operation runs as a Linux user in the guest, so that a grant's list of users applies to it. */
export function actsAsLinuxUser(operation: Operation): boolean {
  return LINUX_USER_OPERATIONS.has(operation);
}
