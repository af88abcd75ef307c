import { stripVTControlCharacters } from "node:util";
import { failure, type Result, success } from "../../protocol/failures.ts";
import type {
  MachineState,
  TerminalClosed,
  TerminalDialect,
  TerminalList,
  TerminalOpen,
  TerminalOutput,
} from "../../protocol/host-api.ts";
import { IMAGE_USER } from "../../protocol/linux-user.ts";
import type { Accounts } from "../accounts.ts";
import type { ManagedMachine } from "../machine.ts";
import { SessionDirectory } from "./directory.ts";
import { type SessionParts, TerminalSession } from "./session.ts";

export interface TerminalsLimits {
  /** Sessions that run in one VM at once; as many exited ones are kept. */
  readonly perVm: number;
  /** How long an exited session is kept, in milliseconds. */
  readonly keepMs: number;
  /** Between two looks whether machines with sessions still run, in milliseconds. */
  readonly checkMs: number;
}

interface VmTerminals {
  readonly machine: ManagedMachine;
  readonly sessions: SessionDirectory<TerminalSession>;
}

/** Every terminal session of this host. They live in this process, so they survive whatever becomes of sockets and edge. */
export class Terminals {
  readonly #parts: SessionParts;
  readonly #accounts: Accounts;
  readonly #limits: TerminalsLimits;
  readonly #byVm = new Map<string, VmTerminals>();
  readonly #check: NodeJS.Timeout;

  constructor(parts: SessionParts, limits: TerminalsLimits) {
    this.#parts = parts;
    this.#accounts = parts.shell.accounts;
    this.#limits = limits;
    this.#check = setInterval(() => this.#lookForDead(), limits.checkMs);
    this.#check.unref();
  }

  /** Opens a session, or finds the one that already has the slug. Wakes the VM for a new one. */
  async open(
    machine: ManagedMachine,
    wanted: string,
    request: TerminalOpen,
  ): Promise<Result<{ session: TerminalSession; created: boolean }>> {
    const user = await this.#accounts.whoIs(machine, wanted);
    if (!user.ok) return user;
    const linuxUser = user.value;
    const { sessions } = this.#of(machine);
    const slug = request.slug ?? null;
    const known = slug === null ? success(null) : sessions.withSlug(slug, linuxUser);
    if (!known.ok) return known;
    const existing = known.value;
    const session = existing === null ? this.#create(machine, linuxUser, slug, request) : success(existing);
    if (!session.ok) return session;
    const started = await session.value.start();
    if (started.ok) return this.#awake(machine, session.value, existing === null);
    sessions.remove(session.value);
    return started;
  }

  /** Finds a session to attach to. Wakes the VM unless the session has exited. */
  async attach(
    machine: ManagedMachine,
    linuxUser: string,
    id: string,
    dialect: TerminalDialect,
  ): Promise<Result<{ session: TerminalSession; created: boolean }>> {
    const session = this.#find(machine, linuxUser, id, dialect);
    return session.ok ? this.#awake(machine, session.value, false) : session;
  }

  list(machine: ManagedMachine, linuxUser: string): TerminalList {
    return {
      sessions: this.#of(machine)
        .sessions.visibleTo(reachOf(linuxUser))
        .map((session) => session.describe()),
    };
  }

  /** The last output of the session of a name. */
  output(machine: ManagedMachine, linuxUser: string, name: string): Result<TerminalOutput> {
    const session = this.#find(machine, linuxUser, name, "v1");
    if (!session.ok) return session;
    const output = session.value.lastOutput.toString("utf8");
    const lines = stripVTControlCharacters(output).split(/\r*\n/);
    if (lines.at(-1) === "") lines.pop();
    return success({ output, lines });
  }

  /** Ends a session and forgets it. */
  async close(machine: ManagedMachine, linuxUser: string, id: string, dialect: TerminalDialect): Promise<Result<TerminalClosed>> {
    const session = this.#find(machine, linuxUser, id, dialect);
    if (!session.ok) return session;
    const { number, name, exitCode } = session.value.describe();
    await this.discard(machine, session.value);
    return success({ number, name, exitCode });
  }

  /** Ends a session and forgets it. */
  async discard(machine: ManagedMachine, session: TerminalSession): Promise<void> {
    this.#of(machine).sessions.remove(session);
    await session.end();
  }

  /** A machine changed its state: one that is down has no terminals, one that is gone no sessions either. */
  machineChanged(vmId: string, state: MachineState): void {
    if (state !== "stopped" && state !== "missing") return;
    for (const session of this.#byVm.get(vmId)?.sessions.all() ?? []) session.machineDown();
    if (state === "missing") this.#byVm.delete(vmId);
  }

  /** Looks after machines no more; the sessions end with their machines. */
  shutDown(): void {
    clearInterval(this.#check);
  }

  #of(machine: ManagedMachine): VmTerminals {
    const known = this.#byVm.get(machine.vmId) ?? { machine, sessions: new SessionDirectory<TerminalSession>() };
    this.#byVm.set(machine.vmId, known);
    return known;
  }

  #find(machine: ManagedMachine, linuxUser: string, id: string, dialect: TerminalDialect): Result<TerminalSession> {
    return this.#of(machine).sessions.find(id, dialect, reachOf(linuxUser), this.#accounts.knownAs(machine, linuxUser));
  }

  #create(machine: ManagedMachine, linuxUser: string, slug: string | null, request: TerminalOpen): Result<TerminalSession> {
    const { sessions } = this.#of(machine);
    const { perVm: limit, keepMs } = this.#limits;
    if (sessions.all().filter((session) => !session.isOver).length >= limit) {
      return failure("session-cap-reached", `The VM has ${limit} terminal sessions, the most it may have. Close one.`, { limit });
    }
    const claimed = sessions.claim(request.name);
    if (!claimed.ok) return claimed;
    const { cols, rows, exec, replaceOnExit } = request;
    const spec = { ...claimed.value, slug, linuxUser, command: exec ?? null, replaceOnExit, size: { cols, rows } };
    const session = new TerminalSession(spec, machine, this.#parts, () => {
      setTimeout(() => sessions.expire(session), keepMs).unref();
      const [oldest, ...kept] = sessions.all().filter((known) => known.isOver);
      if (oldest !== undefined && kept.length >= limit) sessions.expire(oldest);
    });
    sessions.add(session);
    return success(session);
  }

  async #awake(
    machine: ManagedMachine,
    session: TerminalSession,
    created: boolean,
  ): Promise<Result<{ session: TerminalSession; created: boolean }>> {
    const running = session.isOver ? null : await machine.wake();
    return running === null || running.ok || session.isOver ? success({ session, created }) : running;
  }

  #lookForDead(): void {
    for (const { machine, sessions } of this.#byVm.values()) {
      // What it finds it reports as a change of state.
      if (machine.running !== null && sessions.all().some((session) => !session.isOver)) void machine.stillRuns();
    }
  }
}

/** Only who may act as anybody may mean `IMAGE_USER`, so it reaches what root does. */
function reachOf(linuxUser: string): string {
  return linuxUser === IMAGE_USER ? "root" : linuxUser;
}
