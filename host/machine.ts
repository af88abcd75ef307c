import type { Clock } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import type { MachineState, MachineStatus } from "../protocol/host-api.ts";
import type { Log } from "../service/log.ts";
import { messageOf } from "../service/message-of.ts";
import { diskFull, isDiskFull } from "./disk-full.ts";
import type { DiskRoom } from "./disk-room.ts";
import { type Driver, DriverError, type DriverState, type Machine } from "./driver.ts";
import { MachineLife } from "./machine-life.ts";
import { type ReadyLimits, type SshAddress, sshdAnswers } from "./sshd-ready.ts";
import { SerialQueue, SingleFlight } from "./wake.ts";

/** A machine that runs, for as long as `down` has not aborted. */
export interface Running {
  readonly ssh: SshAddress;
  /** When it came up, in milliseconds since 1970 UTC. */
  readonly since: number;
  /** Aborts when the machine is stopped, suspended, deleted or found dead: whatever talks to it must end. */
  readonly down: AbortSignal;
  /** For what may stay connected while the machine sleeps. */
  readonly life: MachineLife;
}

export interface MachineParts {
  readonly driver: Driver;
  readonly clock: Clock;
  readonly log: Log;
  readonly ready: ReadyLimits;
  /** Port of the guests' sshd; 22 but in tests. */
  readonly sshPort: number;
  readonly disk: DiskRoom;
  /** Whether the host is being emptied: then what sleeps is not woken. */
  readonly isDraining: () => boolean;
  /** Told of every change of state, in order; `at` strictly rises. */
  readonly onState: (vmId: string, status: MachineStatus) => void;
}

const DRAINING = "The VM's host is being emptied for maintenance and wakes no VM. Try again when that is over.";

const STATE_OF_DRIVER = { running: "running", paused: "suspended", stopped: "stopped" } as const satisfies Record<
  DriverState,
  MachineState
>;

/**
 * One VM on this host: its state, its life cycle one step at a time, and its wake, once for any number of callers.
 * `hostKey` is the guest's SSH host key line, which everybody who connects pins.
 */
export class ManagedMachine {
  readonly vmId: string;
  readonly hostKey: string;
  readonly #parts: MachineParts;
  readonly #log: Log;
  readonly #queue = new SerialQueue();
  readonly #wake = new SingleFlight<Result<Running>>();
  #state: MachineState;
  #at: number;
  #running: { readonly value: Running; readonly stop: AbortController } | null = null;
  /** Of the memory that the machine has, awake or asleep; null before this agent has seen it run. */
  #life: MachineLife | null = null;

  /** `state`: what the driver says now; `missing` for a machine that is yet to be made. */
  constructor(vmId: string, hostKey: string, state: DriverState | "missing", parts: MachineParts) {
    this.vmId = vmId;
    this.hostKey = hostKey;
    this.#parts = parts;
    this.#log = parts.log.child({ vm: vmId });
    // A machine that already runs was left by an earlier agent: the first wake looks at it before it is trusted.
    this.#state = state === "missing" ? "missing" : STATE_OF_DRIVER[state];
    this.#at = parts.clock();
  }

  status(): MachineStatus {
    return { state: this.#state, at: this.#at };
  }

  /** The running machine, or null: for work that must not wake it. */
  get running(): Running | null {
    return this.#running?.value ?? null;
  }

  /** Makes the machine and waits for its sshd. */
  create(make: () => Promise<Machine>): Promise<Result<Running>> {
    return this.#wake.run(() => this.#queue.run(() => this.#bringUp(make)));
  }

  /** The running machine: at once when it runs, else after one start that every caller of the moment shares. */
  async wake(): Promise<Result<Running>> {
    if (this.#running !== null) return success(this.#running.value);
    return this.#wake.run(() => this.#queue.run(() => this.#wakeNow()));
  }

  /** Keeps memory, frees the processor. A machine that is stopped cannot be suspended. */
  suspend(): Promise<Result<MachineStatus>> {
    return this.#queue.run(async () => {
      if (this.#state === "missing") return this.#gone();
      if (this.#state === "stopped") return failure("vm-not-running", "The VM is stopped; only a running VM can be suspended.");
      if (this.#state === "suspended") return success(this.status());
      const refused = this.#parts.driver.refusesTo?.("pause");
      if (refused !== undefined) return failure("unsupported", refused);
      return this.#putToSleep();
    });
  }

  /** Ends the machine; its disk stays. */
  stop(): Promise<Result<MachineStatus>> {
    return this.#queue.run(async () => {
      if (this.#state === "missing") return this.#gone();
      if (this.#state === "stopped") return success(this.status());
      const refused = this.#parts.driver.refusesTo?.("stop");
      if (refused !== undefined) return failure("unsupported", refused);
      this.#endLife("The VM was stopped.");
      return this.#takeDown("stop", () => this.#parts.driver.stop(this.vmId));
    });
  }

  /** Suspends the machine if the condition still holds once it is its turn. */
  suspendIf(condition: () => boolean): Promise<void> {
    return this.#queue.run(async () => {
      if (this.#state !== "running" || this.#parts.driver.refusesTo?.("pause") !== undefined || !condition()) return;
      await this.#putToSleep();
    });
  }

  /** Runs a step during which nothing starts, stops or deletes the machine. */
  atRest<T>(step: () => Promise<T>): Promise<T> {
    return this.#queue.run(step);
  }

  /** Deletes machine and disk. Repeating it is success. */
  delete(): Promise<Result<MachineStatus>> {
    return this.#queue.run(() => {
      this.#endLife("The VM was deleted.");
      return this.#takeDown("delete", async () => {
        await this.#parts.driver.delete(this.vmId);
        return null;
      });
    });
  }

  /** Asks the driver whether the machine still runs, after somebody failed to reach it. True: it does. */
  stillRuns(): Promise<boolean> {
    return this.#queue.run(async () => {
      if (this.#running === null) return false;
      const state = await this.#look();
      if (state === "running") return true;
      this.#log.warn("machine went down by itself", { state });
      this.#down();
      if (state === "suspended") void this.#life?.fallAsleep();
      this.#become(state);
      return false;
    });
  }

  /** Marks the machine down without touching it: the host is closing and its driver stops every machine. */
  release(): void {
    this.#down();
    this.#endLife("The VM's host is about to restart. Connect again in a moment.");
  }

  /** The driver has stopped the machine with all others. */
  noteStopped(): void {
    if (this.#state !== "missing") this.#become("stopped");
  }

  async #wakeNow(): Promise<Result<Running>> {
    if (this.#running !== null) return success(this.#running.value);
    if (this.#state === "missing") return this.#gone();
    if (this.#parts.isDraining()) return failure("host-draining", DRAINING);
    // A guest that runs writes.
    const full = await this.#parts.disk.refusal("The VM was not woken.");
    if (full !== null) return full;
    return this.#bringUp(() => this.#parts.driver.start(this.vmId));
  }

  async #bringUp(start: () => Promise<Machine>): Promise<Result<Running>> {
    const { ready, sshPort } = this.#parts;
    const before = performance.now();
    this.#become("starting");
    let machine: Machine;
    try {
      machine = await start();
    } catch (error) {
      this.#log.error("machine did not start", { error: messageOf(error) });
      this.#become(isNoSuchMachine(error) ? "missing" : await this.#look());
      if (isDiskFull(error)) return diskFull("The VM could not be started; what it has is as it was.");
      return failure(
        "vm-start-failed",
        "The VM could not be started. Try again; if a sleeping VM stays so, stop it: it then starts from its disk, without its memory.",
      );
    }
    const ssh = { host: machine.address, port: machine.port ?? sshPort };
    if (!(await sshdAnswers(ssh, ready))) {
      this.#log.error("machine runs but its sshd does not answer", { waitedMs: ready.timeoutMs });
      this.#become(await this.#look());
      return failure(
        "vm-start-timeout",
        `The VM's sshd did not answer within ${Math.round(ready.timeoutMs / 1000)} s of its start. Stop the VM and start it again.`,
      );
    }
    const stop = new AbortController();
    this.#life ??= new MachineLife();
    this.#running = { value: { ssh, since: this.#parts.clock(), down: stop.signal, life: this.#life }, stop };
    this.#become("running");
    this.#life.wakeUp();
    this.#log.info("machine runs", { ms: Math.round(performance.now() - before) });
    return success(this.#running.value);
  }

  async #putToSleep(): Promise<Result<MachineStatus>> {
    this.#become("suspending");
    this.#down();
    await this.#life?.fallAsleep();
    return this.#takeDown("suspend", () => this.#parts.driver.pause(this.vmId));
  }

  async #takeDown(what: "suspend" | "stop" | "delete", act: () => Promise<Machine | null>): Promise<Result<MachineStatus>> {
    this.#down();
    try {
      const machine = await act();
      this.#become(machine === null ? "missing" : STATE_OF_DRIVER[machine.state]);
      return success(this.status());
    } catch (error) {
      this.#log.error(`could not ${what} machine`, { error: messageOf(error) });
      this.#become(isNoSuchMachine(error) ? "missing" : await this.#look());
      if (this.#state === "missing") return this.#gone();
      // It did not fall asleep: what waits for it waits no longer.
      if (this.#state === "running") this.#life?.wakeUp();
      return isDiskFull(error)
        ? diskFull(`The host could not ${what} the VM, which goes on as it is.`)
        : failure("host-unavailable", `The host could not ${what} the VM. Try again.`);
    }
  }

  async #look(): Promise<MachineState> {
    try {
      const machine = await this.#parts.driver.inspect(this.vmId);
      if (machine === null || machine.state === "stopped") this.#endLife("The VM went down by itself.");
      return machine === null ? "missing" : STATE_OF_DRIVER[machine.state];
    } catch (error) {
      this.#log.error("driver did not answer", { error: messageOf(error) });
      return "stopped";
    }
  }

  #gone(): Result<never> {
    return failure("vm-not-found", "The VM's machine no longer exists on its host.");
  }

  #down(): void {
    this.#running?.stop.abort();
    this.#running = null;
  }

  #endLife(why: string): void {
    this.#life?.end(why);
    this.#life = null;
  }

  #become(state: MachineState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#at = Math.max(this.#parts.clock(), this.#at + 1);
    this.#parts.onState(this.vmId, this.status());
  }
}

function isNoSuchMachine(error: unknown): boolean {
  return error instanceof DriverError && error.code === "no-such-machine";
}
