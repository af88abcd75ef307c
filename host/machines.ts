import type { Clock, RandomBytes } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import type { CreateMachine, IdlePolicy, MachineResources, MachineStatus } from "../protocol/host-api.ts";
import type { Log } from "../service/log.ts";
import { generateSshKeyPair, type SshKeyPair } from "../service/ssh-keys.ts";
import type { Accounts } from "./accounts.ts";
import { planAccounts, type SetupStep } from "./accounts-plan.ts";
import { diskFull, isDiskFull } from "./disk-full.ts";
import type { DiskRoom } from "./disk-room.ts";
import type { Driver, MachineSpec } from "./driver.ts";
import type { Files } from "./files.ts";
import { refuseFiles, writeGuestFiles } from "./guest-files.ts";
import type { IdleWatch } from "./idle.ts";
import { type MachineParts, ManagedMachine } from "./machine.ts";
import type { MachineRecord, RecordStore } from "./records.ts";
import type { Snapshots } from "./snapshots.ts";
import type { ReadyLimits } from "./sshd-ready.ts";

export interface MachinesOptions {
  readonly driver: Driver;
  readonly store: RecordStore;
  readonly accounts: Accounts;
  readonly files: Files;
  readonly snapshots: Snapshots;
  readonly idle: IdleWatch;
  readonly capacity: number;
  readonly disk: DiskRoom;
  readonly ready: ReadyLimits;
  readonly sshPort: number;
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
  readonly log: Log;
  /** Whether the host takes no new VMs and wakes none. */
  readonly isDraining: () => boolean;
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
    const { driver, clock, log, ready, sshPort, disk, isDraining } = options;
    const onState = (vmId: string, status: MachineStatus) => {
      // A machine in the making is its creator's affair: it is announced once its accounts are there too.
      if (!this.#creating.has(vmId)) options.report(vmId, status);
    };
    this.#parts = { driver, clock, log, ready, sshPort, disk, isDraining, onState };
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
    // Machines that were there before us may wait for the operator to register them.
    if (driver.existing !== undefined) return;
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
    return machine.ok ? success(this.#describe(machine.value)) : machine;
  }

  /**
   * Makes the machine, its groups, users and files; all or nothing. Repeating it for a VM that is there changes nothing.
   * `owner`: the account as the ticket names it, whose snapshots the machine may begin with.
   */
  create(vmId: string, wish: CreateMachine, owner: string): Promise<Result<MachineStatus>> {
    const known = this.#machines.get(vmId);
    if (known !== undefined) return Promise.resolve(success(this.#describe(known)));
    const inflight = this.#creating.get(vmId);
    if (inflight !== undefined) return inflight;
    const plan = this.#plan(vmId, wish, owner);
    if (!plan.ok) return Promise.resolve(plan);
    if (this.#machines.size + this.#creating.size >= this.#options.capacity) {
      return Promise.resolve(failure("no-capacity", "The host has no room for another VM."));
    }
    const creation = this.#make(vmId, wish, plan.value)
      .finally(() => this.#creating.delete(vmId))
      .then((made) => {
        if (made.ok) this.#options.report(vmId, made.value);
        return made;
      });
    this.#creating.set(vmId, creation);
    return creation;
  }

  /** Gives a machine other sizes, at once and for good; absent ones stay. */
  async resize(vmId: string, resources: MachineResources): Promise<Result<MachineStatus>> {
    const { driver, store, log } = this.#options;
    const machine = this.find(vmId);
    if (!machine.ok) return machine;
    const refused = driver.refuses(resources);
    if (refused !== null) return failure("resize-bad-request", refused);
    try {
      await machine.value.atRest(() => driver.resize(vmId, resources));
    } catch (error) {
      log.error("a machine was not resized", { vm: vmId, error: String(error) });
      return failure("resize-failed", "The VM could not be given these sizes; more memory than they allow may be in use.");
    }
    const record = store.read(vmId);
    try {
      if (record !== null) store.save({ ...record, resources: { ...record.resources, ...resources } });
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      return diskFull("The VM has its new sizes, but they could not be noted and may not last.");
    }
    return success(this.#describe(machine.value));
  }

  /** Sets when the machine is put to sleep by itself. Wakes nothing. */
  setIdlePolicy(vmId: string, policy: IdlePolicy): Result<MachineStatus> {
    const { store, idle } = this.#options;
    const machine = this.find(vmId);
    if (!machine.ok) return machine;
    const record = store.read(vmId);
    if (record !== null) store.save({ ...record, idle: policy });
    idle.setPolicy(vmId, policy);
    return success(machine.value.status());
  }

  /** Puts every machine to sleep that has been idle for as long as its policy says. */
  async suspendIdle(): Promise<void> {
    const { idle, log } = this.#options;
    await Promise.all(
      idle.sweep().map(async (vmId) => {
        const machine = this.#machines.get(vmId);
        if (machine?.status().state !== "running") return;
        log.info("machine is idle", { vm: vmId });
        await machine.suspendIf(() => idle.isIdle(vmId));
      }),
    );
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
      this.#options.idle.forget(vmId);
    }
    return deleted;
  }

  /** The steps that follow once the machine runs, or why the wish cannot be met. Nothing has happened yet. */
  #plan(vmId: string, wish: CreateMachine, owner: string): Result<readonly SetupStep[]> {
    const { driver, snapshots } = this.#options;
    if (driver.existing?.(vmId) === null) {
      return failure("unsupported", "This host makes no machines: it has those that its operator names, and not this one.");
    }
    const refused = driver.refuses(wish.resources);
    if (refused !== null) return failure("vm-create-bad-request", refused);
    const badFiles = refuseFiles(wish.files);
    if (badFiles !== null) return badFiles;
    if (wish.snapshotId !== null) {
      const allowed = snapshots.check(wish.snapshotId, owner);
      if (!allowed.ok) return allowed;
    }
    return planAccounts(wish);
  }

  async #make(vmId: string, wish: CreateMachine, steps: readonly SetupStep[]): Promise<Result<MachineStatus>> {
    const { store, disk, clock, randomBytes, driver, accounts, files, log } = this.#options;
    const { resources, idleTimeoutSeconds, activityThresholdBytes } = wish;
    const full = await disk.refusal("The VM was not made.");
    if (full !== null) return full;
    const pair = generateSshKeyPair(randomBytes);
    const hostKey = driver.existing?.(vmId)?.hostKey ?? pair.publicKey;
    const record: MachineRecord = {
      vmId,
      phase: "creating",
      hostKey,
      resources,
      idle: { idleTimeoutSeconds, activityThresholdBytes },
      createdAt: clock(),
    };
    store.save(record);
    const machine = new ManagedMachine(vmId, hostKey, "missing", this.#parts);
    const running = await machine.create(() => driver.create(specOf(vmId, pair, wish)));
    // A machine that was there before us is the VM whether or not it answers at the moment.
    if (!running.ok && driver.existing !== undefined) return this.#ready(record, machine);
    const settled = running.ok ? await accounts.setUp(machine, steps) : running;
    const done = settled.ok ? await writeGuestFiles(machine, wish.files, { accounts, writer: files }) : settled;
    const ready = done.ok ? this.#tryReady(record, machine) : done;
    if (!ready.ok) {
      log.warn("machine was not made", { vm: vmId, kind: ready.failure.kind, reason: ready.failure.message });
      machine.release();
      await this.#undo(vmId);
    }
    return ready;
  }

  /** `#ready`, unless the record of a machine that is made finds no room. */
  #tryReady(record: MachineRecord, machine: ManagedMachine): Result<MachineStatus> {
    try {
      return this.#ready(record, machine);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      return diskFull("The VM was not made.");
    }
  }

  #ready(record: MachineRecord, machine: ManagedMachine): Result<MachineStatus> {
    this.#options.store.save({ ...record, phase: "ready" });
    this.#machines.set(record.vmId, machine);
    this.#options.idle.setPolicy(record.vmId, record.idle);
    return success(this.#describe(machine));
  }

  #describe(machine: ManagedMachine): MachineStatus {
    const { driver, store } = this.#options;
    const chosen = store.read(machine.vmId)?.resources ?? {};
    return { ...machine.status(), resources: { ...driver.defaultResources, ...chosen } };
  }

  #adopt(record: MachineRecord, state: "running" | "paused" | "stopped" | "missing"): void {
    this.#machines.set(record.vmId, new ManagedMachine(record.vmId, record.hostKey, state, this.#parts));
    this.#options.idle.setPolicy(record.vmId, record.idle);
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

function specOf(vmId: string, pair: SshKeyPair, { resources, internet, snapshotId }: CreateMachine): MachineSpec {
  const files = hostKeyFiles(pair);
  return { vmId, files, resources, internet, ...(snapshotId === null ? {} : { snapshotId }) };
}

function hostKeyFiles(pair: SshKeyPair) {
  const path = "/etc/ssh/ssh_host_ed25519_key";
  return [
    { path, mode: 0o600, content: pair.privateKey },
    { path: `${path}.pub`, mode: 0o644, content: `${pair.publicKey}\n` },
  ];
}
