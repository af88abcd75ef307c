/** The Linux user of an operation that names none: root, as the client-sessions document says. */
export const DEFAULT_LINUX_USER = "root";

/**
 * Whoever the guest itself says: the account with the uid 1000 if it has one, else root. That is whom 0.2 means in exec and
 * terminals when it names nobody. Only a caller who may act as anybody may mean it, and no Linux user can have the name.
 */
export const IMAGE_USER = "*";

const LINUX_USER_PATTERN = /^[a-z_][a-z0-9_-]{0,31}$/;

/**
 * Whether a string may be used as a Linux user name at all. Checked at the edge and again at the host, before the name
 * reaches a log, a path, a command or an SSH principal.
 */
export function isLinuxUser(text: string): boolean {
  return LINUX_USER_PATTERN.test(text);
}

/** Whether a grant's list of Linux users admits a user; `null` admits any. */
export function admitsLinuxUser(allowedUsers: readonly string[] | null, linuxUser: string): boolean {
  return allowedUsers === null || allowedUsers.includes(linuxUser);
}
