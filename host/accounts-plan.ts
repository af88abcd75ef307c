import { type Failure, failure, type Result, success } from "../protocol/failures.ts";
import type { CreateMachine, GuestGroup, GuestUser } from "../protocol/host-api.ts";
import { shellQuote } from "./shell-quote.ts";

/** One command for root's shell in the guest, and what its failure means. */
export interface SetupStep {
  readonly command: string;
  /** `status`: exit status of the command; `stderr`: what it complained. */
  readonly explain: (status: number | null, stderr: string) => Failure;
}

/** Beyond what useradd(8) exits with. */
const NO_SHELL = 100;
const DEFAULT_SHELL = "/bin/bash";
/** `/etc/passwd` separates by colon and newline; nothing that could start a new field or line may pass. */
const UNFIT_FOR_PASSWD = /[:\p{Cc}]/u;

/** The steps that make a VM's groups and users, or why the wish cannot be met; nothing has happened yet. */
export function planAccounts({ groups, users }: CreateMachine): Result<readonly SetupStep[]> {
  const doubleGroup = firstDouble(groups.map((group) => group.name));
  if (doubleGroup !== null) return failure("vm-create-bad-request", `The group '${doubleGroup}' is named twice.`);
  const doubleUser = firstDouble(users.map((user) => user.name));
  if (doubleUser !== null) {
    return failure("linux-user-duplicate", `The Linux user '${doubleUser}' is named twice.`, { linuxUser: doubleUser });
  }
  for (const user of users) {
    for (const member of ["gecos", "home", "shell"] as const) {
      const text = user[member];
      if (text !== undefined && UNFIT_FOR_PASSWD.test(text)) {
        return failure("vm-create-bad-request", `users.${member} of '${user.name}' holds a colon or a control character.`);
      }
    }
  }
  return success([...groups.map(groupStep), ...users.map(userStep)]);
}

function groupStep(group: GuestGroup): SetupStep {
  const name = shellQuote(group.name);
  const options = [...(group.gid === undefined ? [] : ["--gid", String(group.gid)]), ...(group.system ? ["--system"] : [])];
  // A group that the image already has is fine, unless another number was asked for.
  const known = group.gid === undefined ? "test -n" : `test ${group.gid} -eq`;
  const command = `if entry=$(getent group ${name}); then ${known} "$(printf %s "$entry" | cut -d: -f3)"; else groupadd ${options.join(" ")} -- ${name}; fi`;
  return {
    command,
    explain: (_status, stderr) => ({
      kind: "vm-create-bad-request",
      message: `The group '${group.name}' could not be made: ${firstLine(stderr) || "it exists with another number"}.`,
    }),
  };
}

function userStep(user: GuestUser): SetupStep {
  const name = shellQuote(user.name);
  const shell = shellQuote(user.shell ?? DEFAULT_SHELL);
  const options = [
    "--create-home",
    "--shell",
    shell,
    ...(user.home === undefined ? [] : ["--home-dir", shellQuote(user.home)]),
    ...(user.uid === undefined ? [] : ["--uid", String(user.uid)]),
    ...(user.gecos === undefined ? [] : ["--comment", shellQuote(user.gecos)]),
    ...(user.groups === undefined || user.groups.length === 0 ? [] : ["--groups", shellQuote(user.groups.join(","))]),
    ...(user.system ? ["--system"] : []),
  ].join(" ");
  // Status 9 of useradd stands for a group of that name too, so the user is looked up first.
  const command = [
    `if getent passwd ${name} >/dev/null; then exit 9; fi`,
    // useradd only warns; nobody could log in.
    `test -f ${shell} && test -x ${shell} || exit ${NO_SHELL}`,
    `if getent group ${name} >/dev/null; then primary="--gid ${user.name}"; else primary=--user-group; fi`,
    `useradd ${options} $primary -- ${name}`,
  ].join("; ");
  return {
    command,
    explain: (status, stderr) => {
      if (status === 9) {
        return {
          kind: "linux-user-exists",
          message: `The Linux user '${user.name}' already exists in the image.`,
          details: { linuxUser: user.name },
        };
      }
      if (status === NO_SHELL) {
        const message = `users.shell of '${user.name}' is no program in the image: ${user.shell ?? DEFAULT_SHELL}.`;
        return { kind: "vm-create-bad-request", message };
      }
      // useradd(8), exit values: 3 bad option argument, 4 number taken, 6 no such group.
      const kind = status === 3 || status === 4 || status === 6 ? "vm-create-bad-request" : "vm-setup-failed";
      return { kind, message: `The Linux user '${user.name}' could not be made: ${firstLine(stderr) || `status ${status}`}.` };
    },
  };
}

function firstDouble(names: readonly string[]): string | null {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) return name;
    seen.add(name);
  }
  return null;
}

function firstLine(text: string): string {
  return text.trim().split("\n", 1)[0]?.replace(/\.$/, "") ?? "";
}
