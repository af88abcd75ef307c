import { failure, type Result, success } from "../protocol/failures.ts";
import type { ExecAnswer } from "../protocol/host-api.ts";
import { DEFAULT_LINUX_USER, IMAGE_USER, isLinuxUser } from "../protocol/linux-user.ts";
import type { SetupStep } from "./accounts-plan.ts";
import { type CommandLimits, startCommand } from "./command.ts";
import type { GuestChannel, GuestSsh, StartChannel } from "./guest-ssh.ts";
import { findMarked, killWithKin, readMarked } from "./kill-command.ts";
import type { ManagedMachine } from "./machine.ts";
import { shellQuote } from "./shell-quote.ts";
import type { ReleaseSlot } from "./slots.ts";
import { killEveryoneIn, sessionOfMarked } from "./terminals/kill.ts";

const CHECK_LIMITS: CommandLimits = { outputBytes: 64 * 1024, drainMs: 500, killGraceMs: 500 };
const CHECK_TIMEOUT_MS = 10_000;
/** One account may take long: `useradd` copies the skeleton and may find a slow disk. */
const SETUP_TIMEOUT_MS = 60_000;
const KILL_ROUNDS = 3;
/** What images give the account that is meant to be used (contract section 7). */
const IMAGE_UID = 1000;
/** Login shells that refuse to be one. */
const NO_SHELLS: ReadonlySet<string> = new Set(["nologin", "false", "sync", "halt", "shutdown"]);

/** Whose a file is, by name. */
export interface FileOwner {
  readonly owner: string;
  readonly group: string;
}

/** What the host knows and does about Linux accounts in guests; as root, over SSH. */
export class Accounts {
  readonly #guests: GuestSsh;
  readonly #imageUsers = new WeakMap<ManagedMachine, string>();

  constructor(guests: GuestSsh) {
    this.#guests = guests;
  }

  /**
   * Opens a channel as `linuxUser`, whose account is known to exist and to have a login shell: otherwise
   * `linux-user-not-found` or `linux-user-forbidden`, instead of what a shell would say. Wakes the machine if it sleeps,
   * then waits for a turn.
   */
  async openAs<T>(machine: ManagedMachine, linuxUser: string, start: StartChannel<T>): Promise<Result<GuestChannel<T>>> {
    const turn = await this.#turn(machine);
    if (!turn.ok) return turn;
    const allowed = await this.#check(machine, linuxUser);
    const opened = allowed.ok ? await this.#guests.open(machine, linuxUser, start) : allowed;
    if (!opened.ok) {
      const shellIsThere = allowed.ok ? await this.#hasShell(machine, linuxUser) : success(null);
      turn.value();
      return shellIsThere.ok ? opened : shellIsThere;
    }
    const release = () => {
      opened.value.release();
      turn.value();
    };
    return success({ ...opened.value, release });
  }

  /** Whom a ticket means: `IMAGE_USER` is the guest's account with the uid 1000, or root. Wakes the machine for that one. */
  async whoIs(machine: ManagedMachine, linuxUser: string): Promise<Result<string>> {
    if (linuxUser !== IMAGE_USER) return success(linuxUser);
    const turn = await this.#turn(machine);
    if (!turn.ok) return turn;
    try {
      const answer = await this.#asRoot(machine, `getent passwd ${IMAGE_UID}`, CHECK_TIMEOUT_MS);
      if (!answer.ok) return answer;
      const [name = ""] = answer.value.stdout.split(":");
      const found = isLinuxUser(name) ? name : DEFAULT_LINUX_USER;
      this.#imageUsers.set(machine, found);
      return success(found);
    } finally {
      turn.value();
    }
  }

  /** Whom `whoIs` last found a machine to mean by `IMAGE_USER`; root before. Wakes nothing. */
  knownAs(machine: ManagedMachine, linuxUser: string): string {
    return linuxUser === IMAGE_USER ? (this.#imageUsers.get(machine) ?? DEFAULT_LINUX_USER) : linuxUser;
  }

  /** Checks that an account can log in. Wakes the machine if it sleeps. */
  async requireLogin(machine: ManagedMachine, linuxUser: string): Promise<Result<null>> {
    const turn = await this.#turn(machine);
    if (!turn.ok) return turn;
    try {
      return await this.#check(machine, linuxUser);
    } finally {
      turn.value();
    }
  }

  /** The names of a user and a group; the number itself for one that has none. */
  async namesOf(machine: ManagedMachine, ids: { readonly uid: number; readonly gid: number }): Promise<Result<FileOwner>> {
    const name = (database: string, id: number) => `"$(getent ${database} ${id} | cut -d: -f1)"`;
    const script = `printf '%s\\n' ${name("passwd", ids.uid)} ${name("group", ids.gid)}`;
    const answer = await this.#asRoot(machine, inShell(script), CHECK_TIMEOUT_MS);
    if (!answer.ok) return answer;
    const [owner, group] = answer.value.stdout.split("\n");
    return success({ owner: owner || String(ids.uid), group: group || String(ids.gid) });
  }

  /**
   * Kills every process whose environment holds exactly `assignment` (`NAME=value`, no quotes or spaces), children that went to the
   * background included, and all that began from one and lost it. Looked for as `linuxUser`, since root in a container may not
   * read other users' environments, and as root; killed as root, since a command may have become anybody. Beside the line of
   * operations: it makes room in it.
   */
  async killMarked(machine: ManagedMachine, linuxUser: string, assignment: string): Promise<void> {
    const find = inShell(findMarked(assignment));
    const finders = [...new Set([linuxUser, "root"])];
    // More than once: a process may have forked while the list was made.
    for (let round = 0; round < KILL_ROUNDS; round += 1) {
      const found = await Promise.all(finders.map((user) => this.#run(machine, user, find, CHECK_TIMEOUT_MS)));
      const marked = found.flatMap((answer) => (answer.ok ? readMarked(answer.value.stdout) : []));
      if (marked.length === 0) return;
      await this.#asRoot(machine, inShell(killWithKin(marked)), CHECK_TIMEOUT_MS);
    }
  }

  /**
   * Kills every process of a terminal's session (setsid(2)), whose leader's environment holds exactly `assignment`
   * (`NAME=value`). What moved to a session of its own (a daemon, `tmux`) lives on, as when a terminal's window is closed.
   */
  async killSession(machine: ManagedMachine, linuxUser: string, assignment: string): Promise<void> {
    // As the user: root of a container may not read the environment of another's process.
    const found = await this.#run(machine, linuxUser, inShell(sessionOfMarked(assignment)), CHECK_TIMEOUT_MS);
    const session = found.ok ? /^\d+$/m.exec(found.value.stdout)?.[0] : undefined;
    if (session !== undefined) await this.#asRoot(machine, inShell(killEveryoneIn(session)), CHECK_TIMEOUT_MS);
  }

  async #turn(machine: ManagedMachine): Promise<Result<ReleaseSlot>> {
    // Woken before anybody waits in line: the line moves only once the machine runs.
    const running = await machine.wake();
    return running.ok ? this.#guests.takeTurn(machine) : running;
  }

  async #check(machine: ManagedMachine, linuxUser: string): Promise<Result<null>> {
    if (linuxUser === "root") return success(null);
    const answer = await this.#asRoot(machine, `getent passwd ${shellQuote(linuxUser)}`, CHECK_TIMEOUT_MS);
    if (!answer.ok) return answer;
    const entry = answer.value.stdout.trim();
    if (answer.value.statusCode !== 0 || entry === "") {
      return failure("linux-user-not-found", `The Linux user '${linuxUser}' does not exist in this VM.`, { linuxUser });
    }
    const shell = entry.split(":").at(6) ?? "";
    if (NO_SHELLS.has(shell.slice(shell.lastIndexOf("/") + 1))) {
      return failure("linux-user-forbidden", `The Linux user '${linuxUser}' has no login shell in this VM.`, { linuxUser });
    }
    return success(null);
  }

  /** Asked when sshd let somebody in not: it says no more than that to one whose shell is no program (sshd(8), login process). */
  async #hasShell(machine: ManagedMachine, linuxUser: string): Promise<Result<null>> {
    if (linuxUser === "root") return success(null);
    const script = `shell=$(getent passwd ${shellQuote(linuxUser)} | cut -d: -f7); printf %s "$shell"; test -x "\${shell:-/bin/sh}"`;
    const answer = await this.#asRoot(machine, inShell(script), CHECK_TIMEOUT_MS);
    if (!answer.ok || answer.value.statusCode !== 1) return success(null);
    const message = `The login shell of the Linux user '${linuxUser}', ${answer.value.stdout}, is no program of this VM.`;
    return failure("linux-user-forbidden", message, { linuxUser });
  }

  /** Takes the steps in order and stops at the first that fails. */
  async setUp(machine: ManagedMachine, steps: readonly SetupStep[]): Promise<Result<null>> {
    for (const step of steps) {
      const answer = await this.#asRoot(machine, step.command, SETUP_TIMEOUT_MS);
      if (!answer.ok) return answer;
      const { statusCode, stderr } = answer.value;
      if (statusCode !== 0) return { ok: false, failure: step.explain(statusCode, stderr) };
    }
    return success(null);
  }

  #asRoot(machine: ManagedMachine, command: string, timeoutMs: number): Promise<Result<ExecAnswer>> {
    return this.#run(machine, "root", command, timeoutMs);
  }

  async #run(machine: ManagedMachine, linuxUser: string, command: string, timeoutMs: number): Promise<Result<ExecAnswer>> {
    const caller = new AbortController().signal;
    const opened = await this.#guests.open(machine, linuxUser, (client, down) =>
      startCommand(client, { command, env: {}, stdin: null, timeoutMs }, CHECK_LIMITS, { caller, down, kill: () => undefined }),
    );
    if (!opened.ok) return opened;
    const answer = await opened.value.channel.result;
    opened.value.release();
    return answer;
  }
}

/** A command that runs a script through sh, whatever the user's login shell is. */
function inShell(script: string): string {
  return `exec /bin/sh -c ${shellQuote(script)}`;
}
