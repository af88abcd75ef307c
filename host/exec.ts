import { encodeBase32 } from "../protocol/base32.ts";
import type { RandomBytes } from "../protocol/bytes.ts";
import { failure, type Result } from "../protocol/failures.ts";
import type { ExecAnswer, ExecRequest } from "../protocol/host-api.ts";
import { IMAGE_USER } from "../protocol/linux-user.ts";
import type { Accounts } from "./accounts.ts";
import { type CommandLimits, startCommand } from "./command.ts";
import type { ManagedMachine } from "./machine.ts";

export interface ExecLimits extends CommandLimits {
  /** Time for a command that names none, in milliseconds. */
  readonly timeoutMs: number;
  /** Longest time that a command may ask for, in milliseconds. */
  readonly maxTimeoutMs: number;
}

/** POSIX.1-2017, Base Definitions 8.1, and what `sshd` passes on. */
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Linux's MAX_ARG_STRLEN without the NUL (execve(2)): sshd hands a command to the shell as one argument. */
const MAX_ARGUMENT_BYTES = 131_071;

/**
 * Environment variable that every command of an exec inherits: how its processes are found when they must be killed.
 * SSH's own signals do not do: OpenSSH refuses them for root (no separate monitor), and they reach one process group only.
 */
const MARKER = "POSTERN_EXEC_ID";

/** Runs commands in guests for whoever holds an `exec` ticket. Wakes the VM first. */
export class Exec {
  readonly #accounts: Accounts;
  readonly #limits: ExecLimits;
  readonly #randomBytes: RandomBytes;

  constructor(accounts: Accounts, limits: ExecLimits, randomBytes: RandomBytes) {
    this.#accounts = accounts;
    this.#limits = limits;
    this.#randomBytes = randomBytes;
  }

  /**
   * `caller` aborts when the caller went away: the command is killed. `actedAs` is told whom `IMAGE_USER` turned out to be,
   * before the command runs.
   */
  async run(
    machine: ManagedMachine,
    wanted: string,
    request: ExecRequest,
    caller: AbortSignal,
    actedAs?: (linuxUser: string) => void,
  ): Promise<Result<ExecAnswer>> {
    const refused = this.#check(request);
    if (refused !== null) return refused;
    const user = await this.#accounts.whoIs(machine, wanted);
    if (!user.ok) return user;
    const linuxUser = user.value;
    if (wanted === IMAGE_USER) actedAs?.(linuxUser);
    const marker = encodeBase32(this.#randomBytes(10));
    const command = {
      command: request.command,
      env: { ...request.env, [MARKER]: marker },
      stdin: request.stdin === undefined ? null : Buffer.from(request.stdin, "base64"),
      timeoutMs: request.timeoutMs ?? this.#limits.timeoutMs,
    };
    const kill = () => void this.#accounts.killMarked(machine, linuxUser, `${MARKER}=${marker}`);
    const opened = await this.#accounts.openAs(machine, linuxUser, async (client, down) => {
      // Whoever gave up while waiting in line must not have the command run behind their back.
      caller.throwIfAborted();
      return startCommand(client, command, this.#limits, { caller, down, kill });
    });
    if (!opened.ok) return opened;
    const answer = await opened.value.channel.result;
    opened.value.release();
    return answer;
  }

  #check(request: ExecRequest): Result<never> | null {
    if (request.command.includes("\0")) return failure("bad-request", "command holds a NUL character.", { path: "command" });
    if (Buffer.byteLength(request.command) > MAX_ARGUMENT_BYTES) {
      const message = `command: Linux runs commands of at most ${MAX_ARGUMENT_BYTES} bytes. Write a longer one to a file, or send it as stdin to sh.`;
      return failure("bad-request", message, { path: "command" });
    }
    if (request.timeoutMs !== null && request.timeoutMs > this.#limits.maxTimeoutMs) {
      return failure("bad-request", `timeoutMs may be at most ${this.#limits.maxTimeoutMs}.`, { path: "timeoutMs" });
    }
    for (const [name, value] of Object.entries(request.env)) {
      if (!ENV_NAME.test(name)) return failure("bad-request", "env holds a name that is no variable name.", { path: "env" });
      if (Buffer.byteLength(name) + Buffer.byteLength(value) >= MAX_ARGUMENT_BYTES) {
        return failure("bad-request", `env.${name}: a variable has at most ${MAX_ARGUMENT_BYTES} bytes.`, { path: `env.${name}` });
      }
      if (value.includes("\0")) return failure("bad-request", `env.${name} holds a NUL character.`, { path: `env.${name}` });
    }
    return null;
  }
}
