import { failure, type Result, success } from "../protocol/failures.ts";
import type { ExecAnswer } from "../protocol/host-api.ts";
import type { SetupStep } from "./accounts-plan.ts";
import { type CommandLimits, startCommand } from "./command.ts";
import type { GuestChannel, GuestSsh, StartChannel } from "./guest-ssh.ts";
import type { ManagedMachine } from "./machine.ts";
import { shellQuote } from "./shell-quote.ts";
import type { ReleaseSlot } from "./slots.ts";

const CHECK_LIMITS: CommandLimits = { outputBytes: 64 * 1024, drainMs: 500, killGraceMs: 500 };
const CHECK_TIMEOUT_MS = 10_000;
/** One account may take long: `useradd` copies the skeleton and may find a slow disk. */
const SETUP_TIMEOUT_MS = 60_000;
/** Login shells that refuse to be one. */
const NO_SHELLS: ReadonlySet<string> = new Set(["nologin", "false", "sync", "halt", "shutdown"]);

/** What the host knows and does about Linux accounts in guests; as root, over SSH. */
export class Accounts {
  readonly #guests: GuestSsh;

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
      turn.value();
      return opened;
    }
    const release = () => {
      opened.value.release();
      turn.value();
    };
    return success({ ...opened.value, release });
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

  /**
   * Kills every process whose environment holds exactly `assignment` (`NAME=value`), children that went to the background
   * included. Beside the line: it makes room in it.
   */
  async killMarked(machine: ManagedMachine, assignment: string): Promise<void> {
    const find = `grep --files-with-matches --no-messages --null-data --line-regexp ${shellQuote(assignment)} /proc/[0-9]*/environ`;
    // More than once: a process may have forked while the list was made.
    const command = `for round in 1 2 3; do found=$(${find} | cut -d/ -f3); [ -n "$found" ] || exit 0; kill -KILL $found; done`;
    await this.#asRoot(machine, command, CHECK_TIMEOUT_MS);
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

  async #asRoot(machine: ManagedMachine, command: string, timeoutMs: number): Promise<Result<ExecAnswer>> {
    const caller = new AbortController().signal;
    const opened = await this.#guests.open(machine, "root", (client, down) =>
      startCommand(client, { command, env: {}, stdin: null, timeoutMs }, CHECK_LIMITS, { caller, down, kill: () => undefined }),
    );
    if (!opened.ok) return opened;
    const answer = await opened.value.channel.result;
    opened.value.release();
    return answer;
  }
}
