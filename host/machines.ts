import type { Clock, RandomBytes } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import type { CreateMachine, MachineStatus } from "../protocol/host-api.ts";
import type { Log } from "../service/log.ts";
import { generateSshKeyPair, type SshKeyPair } from "../service/ssh-keys.ts";
import type { Accounts } from "./accounts.ts";
import { planAccounts, type SetupStep } from "./accounts-plan.ts";
import type { Driver } from "./driver.ts";
import { type MachineParts, ManagedMachine } from "./machine.ts";
import type { MachineRecord, RecordStore } from "./records.ts";
import type { ReadyLimits } from "./sshd-ready.ts";

export interface MachinesOptions {
  readonly driver: Driver;
  readonly store: RecordStore;
  readonly accounts: Accounts;
  readonly capacity: number;
  readonly ready: ReadyLimits;
  readonly sshPort: number;
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
  readonly log: Log;
  /** Told of every state that the region should know. */
  readonly report: (vmId: string, status: MachineStatus) => void;
}

/** The VMs of this host: which there are, and how one is made. */
export class Machines {
  readonly #options: MachinesOptions;
  readonly #parts: MachineParts;
  readonly #machines = new Map<string, ManagedMachine>();
  readonly #creating = new Map<string, Promise<Result<MachineStatus>>>();

  constructor(options: MachinesOptions) {
    this.#options = options;
    const { driver, clock, log, ready, sshPort } = options;
    const onState = (vmId: string, status: MachineStatus) => {
      // A machine in the making is its creator's affair: it is announced once its accounts are there too.
      if (!this.#creating.has(vmId)) options.report(vmId, status);
    };
    this.#parts = { driver, clock, log, ready, sshPort, onState };
  }

  /** Takes up the VMs of an earlier run, and undoes those that were only half made. */
  async restore(): Promise<void> {
    const { driver, store, log } = this.#options;
    const known = new Map((await driver.list()).map((machine) => [machine.vmId, machine]));
    for (const record of store.list()) {
      const machine = known.get(record.vmId);
      known.delete(record.vmId);
      if (record.phase === "ready") this.#adopt(record, machine?.state ?? "missing");
      else await this.#undo(record.vmId);
    }
    for (const vmId of known.keys()) log.warn("the driver has a machine that this host has no record of", { vm: vmId });
  }

  /** The machine of a VM, or `vm-not-found`. A VM that is still being made is not there yet. */
  find(vmId: string): Result<ManagedMachine> {
    const machine = this.#machines.get(vmId);
    return machine === undefined ? failure("vm-not-found", "The VM is not on this host.") : success(machine);
  }

  all(): ManagedMachine[] {
    return [...this.#machines.values()];
  }

  read(vmId: string): Result<MachineStatus> {
    if (this.#creating.has(vmId)) return success({ state: "starting", at: this.#options.clock() });
    const machine = this.find(vmId);
    return machine.ok ? success(machine.value.status()) : machine;
  }

  /** Makes the machine, its groups and users; all or nothing. Repeating it for a VM that is there changes nothing. */
  create(vmId: string, wish: CreateMachine): Promise<Result<MachineStatus>> {
    const known = this.#machines.get(vmId);
    if (known !== undefined) return Promise.resolve(success(known.status()));
    const inflight = this.#creating.get(vmId);
    if (inflight !== undefined) return inflight;
    const plan = planAccounts(wish);
    if (!plan.ok) return Promise.resolve(plan);
    if (this.#machines.size + this.#creating.size >= this.#options.capacity) {
      return Promise.resolve(failure("no-capacity", "The host has no room for another VM."));
    }
    const creation = this.#make(vmId, plan.value)
      .finally(() => this.#creating.delete(vmId))
      .then((made) => {
        if (made.ok) this.#options.report(vmId, made.value);
        return made;
      });
    this.#creating.set(vmId, creation);
    return creation;
  }

  /** Deletes machine, disk and record. Nothing to delete is success. */
  async delete(vmId: string): Promise<Result<MachineStatus>> {
    await this.#creating.get(vmId);
    const machine = this.#machines.get(vmId);
    if (machine === undefined) return success({ state: "missing", at: this.#options.clock() });
    const deleted = await machine.delete();
    if (deleted.ok) {
      this.#options.store.remove(vmId);
      this.#machines.delete(vmId);
    }
    return deleted;
  }

  async #make(vmId: string, steps: readonly SetupStep[]): Promise<Result<MachineStatus>> {
    const { store, clock, randomBytes, driver, accounts, log } = this.#options;
    const pair = generateSshKeyPair(randomBytes);
    const record: MachineRecord = { vmId, phase: "creating", hostKey: pair.publicKey, createdAt: clock() };
    store.save(record);
    const machine = new ManagedMachine(vmId, pair.publicKey, "missing", this.#parts);
    const running = await machine.create(() => driver.create({ vmId, files: hostKeyFiles(pair) }));
    const done = running.ok ? await accounts.setUp(machine, steps) : running;
    if (!done.ok) {
      log.warn("machine was not made", { vm: vmId, kind: done.failure.kind, reason: done.failure.message });
      machine.release();
      await this.#undo(vmId);
      return done;
    }
    store.save({ ...record, phase: "ready" });
    this.#machines.set(vmId, machine);
    return success(machine.status());
  }

  #adopt(record: MachineRecord, state: "running" | "paused" | "stopped" | "missing"): void {
    this.#machines.set(record.vmId, new ManagedMachine(record.vmId, record.hostKey, state, this.#parts));
  }

  async #undo(vmId: string): Promise<void> {
    try {
      await this.#options.driver.delete(vmId);
      this.#options.store.remove(vmId);
    } catch (error) {
      // The record stays, so the next start tries again.
      this.#options.log.error("half-made machine could not be deleted", { vm: vmId, error: String(error) });
    }
  }
}

function hostKeyFiles(pair: SshKeyPair) {
  const path = "/etc/ssh/ssh_host_ed25519_key";
  return [
    { path, mode: 0o600, content: pair.privateKey },
    { path: `${path}.pub`, mode: 0o644, content: `${pair.publicKey}\n` },
  ];
}
