import { failure, type Result, success } from "../protocol/failures.ts";
import type { MachineResources, MachineState } from "../protocol/host-api.ts";
import { newRowId } from "../protocol/ids.ts";
import { VM_NOT_FOUND_MESSAGE } from "../protocol/messages.ts";
import type { Env } from "./env.ts";
import { OperationQueue } from "./operation-queue.ts";
import { Outbox } from "./outbox.ts";
import { chooseRegion } from "./placement.ts";
import { RestWatch } from "./rest-watch.ts";
import { readRegions } from "./settings.ts";
import { StoredObject } from "./stored-object.ts";
import { UNANSWERED, VmCommands } from "./vm-commands.ts";
import type { Exposure, FirewallRule, Placement, VmApi, VmChange, VmEpochs, VmRecord, VmSpec } from "./vm-contract.ts";
import { VmCreation } from "./vm-creation.ts";
import { VmHost } from "./vm-host.ts";
import { type Command, isResting } from "./vm-lifecycle.ts";
import { VmMachine } from "./vm-machine.ts";
import { VmNeighbours } from "./vm-neighbours.ts";
import { record, VM_SCHEMA, type VmRow, VmStore } from "./vm-store.ts";
import { VmTransfer } from "./vm-transfer.ts";
import { VmUpkeep } from "./vm-upkeep.ts";

/** What the queue tells apart. No two transfers, updates and resizes are the same operation, so none may share another's answer. */
type Operation = Command | "create" | "recover" | `transfer:${string}` | `update:${string}` | `resize:${string}`;

/**
 * A VM: owner, placement and lifecycle. Every change of the machine is written down as an intent before the host is asked,
 * so that after a crash the alarm, or the next operation, finds out what became of it and finishes or undoes it.
 */
export class Vm extends StoredObject implements VmApi {
  readonly #store: VmStore;
  readonly #host: VmHost;
  readonly #neighbours: VmNeighbours;
  readonly #queue = new OperationQueue<Operation>();
  readonly #watch = new RestWatch();
  readonly #upkeep: VmUpkeep;
  readonly #machine: VmMachine;
  readonly #creation: VmCreation;
  readonly #commands: VmCommands;
  readonly #transfer: VmTransfer;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env, VM_SCHEMA);
    const { storage } = ctx;
    const { settings } = this;
    const clock = () => this.clock();
    const store = new VmStore(this.sql, this.schema, clock);
    const neighbours = new VmNeighbours(env);
    const host = new VmHost(env, settings, clock, (length) => this.randomBytes(length));
    const outbox = new Outbox(storage, env, settings, clock);
    const upkeep = new VmUpkeep({ storage, store, neighbours, outbox, watch: this.#watch, settings, clock });
    const machine = new VmMachine({ store, host, neighbours, upkeep });
    const creation = new VmCreation({ store, host, neighbours, machine, upkeep });
    this.#store = store;
    this.#host = host;
    this.#neighbours = neighbours;
    this.#upkeep = upkeep;
    this.#machine = machine;
    this.#creation = creation;
    this.#commands = new VmCommands({ store, machine, creation, upkeep, settings });
    this.#transfer = new VmTransfer(store, neighbours, async (change) => {
      upkeep.narrow(change);
      await upkeep.deliver();
    });
  }

  async create(accountId: string, vmId: string, spec: VmSpec, trace?: string): Promise<Result<VmRecord>> {
    if (this.#store.read() !== null) return taken();
    const boot = spec.snapshotId === null ? success(spec.registeredOn) : await this.#neighbours.boot(accountId, spec.snapshotId);
    if (!boot.ok) return boot;
    // Another call for this id may have come while the snapshot was asked.
    if (this.#store.read() !== null) return taken();
    const region = chooseRegion(spec.placement.region, boot.value?.region ?? null, readRegions(this.env.REGIONS));
    if (!region.ok) return region;
    this.#store.insert({ id: vmId, accountId, spec, region: region.value });
    this.#upkeep.lookAgainIn(this.settings.VM_RECOVERY_MS);
    return this.#run("create", trace, () => this.#creation.begin(boot.value?.hostId ?? null));
  }

  async created(accountId: string): Promise<Result<VmRecord>> {
    if (this.#visible(accountId)?.intent === "create") {
      // Behind the creation if it is under way; after a crash there is none, and it must be finished or undone.
      await this.#run("recover", undefined, async () => {
        if (this.#store.must().intent !== null) await this.#commands.recover();
      });
    }
    const row = this.#visible(accountId);
    if (row?.intent === "create") return failure("host-unavailable", UNANSWERED);
    // As after any repeated command: the account may not have heard of it.
    if (row !== null) await this.#upkeep.note();
    return this.read(accountId);
  }

  async read(accountId: string | null): Promise<Result<VmRecord>> {
    const row = this.#visible(accountId);
    return row === null ? notFound() : success(record(row));
  }

  async placement(): Promise<Result<Placement>> {
    const row = this.#visible(null);
    if (row === null || row.hostId === "" || row.intent === "delete") return notFound();
    const readAt = this.clock();
    const { id: vmId, accountId, region, hostId, epoch, unnotedEpoch } = row;
    const { ports } = row.traits;
    const hostUrl = await this.#neighbours.hostUrl(row);
    if (!hostUrl.ok) return hostUrl;
    return success({ vmId, accountId, region, hostId, hostUrl: hostUrl.value, ports, epoch, unnotedEpoch, readAt });
  }

  async exposure(): Promise<Result<Exposure>> {
    const row = this.#visible(null);
    return row === null ? notFound() : success({ accountId: row.accountId, ports: row.traits.ports });
  }

  async epochs(): Promise<VmEpochs> {
    const { epoch = 0, unnotedEpoch = 0 } = this.#store.read() ?? {};
    return { epoch, unnotedEpoch };
  }

  async transfer(toAccountId: string): Promise<Result<VmRecord>> {
    const row = this.#visible(null);
    if (row === null) return notFound();
    if (this.#queue.length >= this.settings.VM_QUEUE_MAX) return tooMany();
    return this.#run(`transfer:${newRowId(this.randomBytes)}`, undefined, async () => {
      if (this.#store.must().accountId !== toAccountId) this.#store.change({ movingTo: toAccountId });
      this.#upkeep.lookAgainIn(this.settings.VM_RECOVERY_MS);
      const moved = await this.#transfer.finish();
      await this.#upkeep.note();
      this.#upkeep.rearm();
      return moved.ok ? success(record(this.#store.must())) : moved;
    });
  }

  async start(accountId: string, trace?: string): Promise<Result<VmRecord>> {
    return this.#command(accountId, "start", trace);
  }

  async stop(accountId: string, trace?: string): Promise<Result<VmRecord>> {
    return this.#command(accountId, "stop", trace);
  }

  async suspend(accountId: string, trace?: string): Promise<Result<VmRecord>> {
    return this.#command(accountId, "suspend", trace);
  }

  async remove(accountId: string, trace?: string): Promise<Result<VmRecord>> {
    if (this.#visible(accountId)?.spec.registeredOn) {
      return failure("unsupported", "This VM is an existing machine. Only the operator can take it away, by unregistering it.");
    }
    return this.#command(accountId, "delete", trace);
  }

  async unregister(accountId: string, trace?: string): Promise<Result<VmRecord>> {
    if (this.#visible(accountId)?.spec.registeredOn === null) {
      return failure("unsupported", "This VM was made, not registered: its account deletes it.");
    }
    return this.#command(accountId, "delete", trace);
  }

  async update(accountId: string, change: VmChange, trace?: string): Promise<Result<VmRecord>> {
    if (this.#visible(accountId) === null) return notFound();
    if (this.#queue.length >= this.settings.VM_QUEUE_MAX) return tooMany();
    return this.#run(`update:${newRowId(this.randomBytes)}`, trace, () => this.#commands.update(change));
  }

  async resize(accountId: string, wish: MachineResources, growOnly: boolean, trace?: string): Promise<Result<VmRecord>> {
    if (this.#visible(accountId) === null) return notFound();
    if (this.#queue.length >= this.settings.VM_QUEUE_MAX) return tooMany();
    return this.#run(`resize:${newRowId(this.randomBytes)}`, trace, () => this.#commands.resize(wish, growOnly));
  }

  async firewall(accountId: string): Promise<Result<readonly FirewallRule[]>> {
    const row = this.#visible(accountId);
    return row === null ? notFound() : success(row.spec.firewall);
  }

  async untilAtRest(accountId: string): Promise<Result<VmRecord>> {
    const row = this.#visible(accountId);
    if (row !== null && !isResting(row.state)) await this.#watch.wait(this.settings.VM_AWAIT_STEP_MS);
    return this.read(accountId);
  }

  async untold(): Promise<readonly string[]> {
    return this.schema.exists ? this.#upkeep.untold() : [];
  }

  async observe(hostId: string, state: MachineState, at: number): Promise<void> {
    const row = this.#store.read();
    if (row === null || row.hostId !== hostId || at <= row.observedAt) return;
    if (row.state === "deleted") {
      // The host has a machine that was deleted: the deletion must reach it again.
      if (state === "missing" || row.intent !== null) return;
      this.#store.change({ intent: "delete", observedAt: at });
      this.#upkeep.lookAgainIn(0);
      return;
    }
    this.#machine.adopt(row, { state, at });
    this.#upkeep.rearm();
    await this.#upkeep.note();
    this.#upkeep.rearm();
  }

  override async alarm(): Promise<void> {
    const row = this.#store.read();
    if (row === null) return;
    await this.#upkeep.deliver();
    if (VmTransfer.isUnderWay(row)) {
      await this.#run(`transfer:${newRowId(this.randomBytes)}`, undefined, () => this.#transfer.finish());
    }
    if (row.intent !== null) {
      // An operation of this very memory is still at it: not a crash. Look again later.
      if (this.#queue.length > 0) {
        this.#upkeep.lookAgainIn(this.settings.VM_RECOVERY_MS);
        return;
      }
      await this.#run("recover", undefined, () => this.#commands.recover());
    } else if (this.#upkeep.isOverdue(row)) {
      await this.#run("delete", undefined, () => this.#commands.perform("delete"));
    }
    await this.#upkeep.note();
    this.#upkeep.rearm();
  }

  async #command(accountId: string, command: Command, trace?: string): Promise<Result<VmRecord>> {
    if (this.#visible(accountId) === null) return notFound();
    if (this.#queue.length >= this.settings.VM_QUEUE_MAX) return tooMany();
    return this.#run(command, trace, () => this.#commands.perform(command));
  }

  /** One at a time, so that the host's log can say on whose behalf it is asked. */
  #run<T>(name: Operation, trace: string | undefined, operation: () => Promise<T>): Promise<T> {
    return this.#queue.run(name, () => {
      this.#host.trace = trace ?? null;
      return operation();
    });
  }

  #visible(accountId: string | null): VmRow | null {
    const row = this.#store.read();
    if (row === null || row.state === "deleted") return null;
    return accountId === null || row.accountId === accountId ? row : null;
  }
}

function tooMany() {
  return failure("vm-busy", "Too many operations wait for this VM. Try again shortly.");
}

function notFound() {
  return failure("vm-not-found", VM_NOT_FOUND_MESSAGE);
}

function taken() {
  return failure("conflict", "A VM with this id exists already.", { taken: "id" });
}
