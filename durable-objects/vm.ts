import { failure, type Result, success } from "../protocol/failures.ts";
import type { MachineState } from "../protocol/feed.ts";
import type { MachineResources, MachineStatus } from "../protocol/host-api.ts";
import { newRowId } from "../protocol/ids.ts";
import { VM_NOT_FOUND_MESSAGE } from "../protocol/messages.ts";
import { vmSubject } from "../protocol/subjects.ts";
import type { Env } from "./env.ts";
import { isUnsettled } from "./host-client.ts";
import { OperationQueue } from "./operation-queue.ts";
import { Outbox } from "./outbox.ts";
import { chooseRegion } from "./placement.ts";
import { RestWatch } from "./rest-watch.ts";
import { readRegions } from "./settings.ts";
import { StoredObject } from "./stored-object.ts";
import type { Exposure, FirewallRule, Placement, VmApi, VmChange, VmRecord, VmSpec } from "./vm-contract.ts";
import { deletionDueAt } from "./vm-deadlines.ts";
import { type HostOutcome, VmHost } from "./vm-host.ts";
import { type Command, isResting, stateAfter, stepFor } from "./vm-lifecycle.ts";
import { VmNeighbours } from "./vm-neighbours.ts";
import { changedTraits, differsInIdleness, MAX_METADATA_ENTRIES, refuseSizes } from "./vm-spec.ts";
import { mustBeNoted, record, VM_SCHEMA, type VmRow, type VmRowChange, VmStore } from "./vm-store.ts";
import { VmTransfer } from "./vm-transfer.ts";

const UNANSWERED = "The VM's host has not answered an earlier request yet. Try again shortly.";

/**
 * A VM: owner, placement and lifecycle. Every change of the machine is written down as an intent before the host is asked,
 * so that after a crash the alarm, or the next operation, finds out what became of it and finishes or undoes it.
 */
export class Vm extends StoredObject implements VmApi {
  readonly #store: VmStore;
  readonly #host: VmHost;
  readonly #neighbours: VmNeighbours;
  readonly #queue = new OperationQueue<
    Command | "create" | "recover" | `transfer:${string}` | `update:${string}` | `resize:${string}`
  >();
  readonly #watch = new RestWatch();
  readonly #outbox: Outbox;
  readonly #transfer: VmTransfer;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env, VM_SCHEMA);
    const clock = () => this.clock();
    this.#store = new VmStore(this.sql, this.schema, clock);
    this.#neighbours = new VmNeighbours(env);
    this.#outbox = new Outbox(ctx.storage, env, this.settings, clock);
    this.#transfer = new VmTransfer(this.#store, this.#neighbours, async (change) => {
      this.#narrow(change);
      await this.#outbox.deliver();
    });
    this.#host = new VmHost(env, this.settings, clock, (length) => this.randomBytes(length));
  }

  async create(accountId: string, vmId: string, spec: VmSpec): Promise<Result<VmRecord>> {
    if (this.#store.read() !== null) return taken();
    const boot = spec.snapshotId === null ? success(spec.registeredOn) : await this.#neighbours.boot(accountId, spec.snapshotId);
    if (!boot.ok) return boot;
    // Another call for this id may have come while the snapshot was asked.
    if (this.#store.read() !== null) return taken();
    const region = chooseRegion(spec.placement.region, boot.value?.region ?? null, readRegions(this.env.REGIONS));
    if (!region.ok) return region;
    this.#store.insert({ id: vmId, accountId, spec, region: region.value });
    this.#setAlarm(this.settings.VM_RECOVERY_MS);
    return this.#queue.run("create", () => this.#create(boot.value?.hostId ?? null));
  }

  async created(accountId: string): Promise<Result<VmRecord>> {
    if (this.#visible(accountId)?.intent === "create") {
      // Behind the creation if it is under way; after a crash there is none, and it must be finished or undone.
      await this.#queue.run("recover", async () => {
        if (this.#store.must().intent !== null) await this.#recover();
      });
    }
    const row = this.#visible(accountId);
    return row?.intent === "create" ? failure("host-unavailable", UNANSWERED) : this.read(accountId);
  }

  async read(accountId: string | null): Promise<Result<VmRecord>> {
    const row = this.#visible(accountId);
    return row === null ? notFound() : success(record(row));
  }

  async placement(): Promise<Result<Placement>> {
    const row = this.#visible(null);
    if (row === null || row.hostId === "" || row.intent === "delete") return notFound();
    const readAt = this.clock();
    const { id: vmId, accountId, region, hostId, epoch } = row;
    const { ports } = row.traits;
    const hostUrl = await this.#neighbours.hostUrl(row);
    if (!hostUrl.ok) return hostUrl;
    return success({ vmId, accountId, region, hostId, hostUrl: hostUrl.value, ports, epoch, readAt });
  }

  async exposure(): Promise<Result<Exposure>> {
    const row = this.#visible(null);
    return row === null ? notFound() : success({ accountId: row.accountId, ports: row.traits.ports });
  }

  async epoch(): Promise<number> {
    return this.#store.read()?.epoch ?? 0;
  }

  async transfer(toAccountId: string): Promise<Result<VmRecord>> {
    const row = this.#visible(null);
    if (row === null) return notFound();
    if (this.#queue.length >= this.settings.VM_QUEUE_MAX) return tooMany();
    return this.#queue.run(`transfer:${newRowId(this.randomBytes)}`, async () => {
      if (this.#store.must().accountId !== toAccountId) this.#store.change({ movingTo: toAccountId });
      this.#setAlarm(this.settings.VM_RECOVERY_MS);
      const moved = await this.#transfer.finish();
      await this.#note();
      this.#rearm();
      return moved.ok ? success(record(this.#store.must())) : moved;
    });
  }

  async start(accountId: string): Promise<Result<VmRecord>> {
    return this.#command(accountId, "start");
  }

  async stop(accountId: string): Promise<Result<VmRecord>> {
    return this.#command(accountId, "stop");
  }

  async suspend(accountId: string): Promise<Result<VmRecord>> {
    return this.#command(accountId, "suspend");
  }

  async remove(accountId: string): Promise<Result<VmRecord>> {
    if (this.#visible(accountId)?.spec.registeredOn) {
      return failure("unsupported", "This VM is an existing machine. Only the operator can take it away, by unregistering it.");
    }
    return this.#command(accountId, "delete");
  }

  async unregister(accountId: string): Promise<Result<VmRecord>> {
    if (this.#visible(accountId)?.spec.registeredOn === null) {
      return failure("unsupported", "This VM was made, not registered: its account deletes it.");
    }
    return this.#command(accountId, "delete");
  }

  async update(accountId: string, change: VmChange): Promise<Result<VmRecord>> {
    if (this.#visible(accountId) === null) return notFound();
    if (this.#queue.length >= this.settings.VM_QUEUE_MAX) return tooMany();
    // No two updates are the same operation, so none may share another's answer.
    return this.#queue.run(`update:${newRowId(this.randomBytes)}`, () => this.#update(change));
  }

  async resize(accountId: string, wish: MachineResources, growOnly: boolean): Promise<Result<VmRecord>> {
    if (this.#visible(accountId) === null) return notFound();
    if (this.#queue.length >= this.settings.VM_QUEUE_MAX) return tooMany();
    return this.#queue.run(`resize:${newRowId(this.randomBytes)}`, () => this.#resize(wish, growOnly));
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

  async observe(hostId: string, state: MachineState, at: number): Promise<void> {
    const row = this.#store.read();
    if (row === null || row.hostId !== hostId || at <= row.observedAt) return;
    if (row.state === "deleted") {
      // The host has a machine that was deleted: the deletion must reach it again.
      if (state === "missing" || row.intent !== null) return;
      this.#store.change({ intent: "delete", observedAt: at });
      this.#setAlarm(0);
      return;
    }
    this.#adopt(row, { state, at });
    this.#rearm();
    await this.#note();
    this.#rearm();
  }

  override async alarm(): Promise<void> {
    const row = this.#store.read();
    if (row === null) return;
    await this.#outbox.deliver();
    if (VmTransfer.isUnderWay(row)) await this.#queue.run(`transfer:${newRowId(this.randomBytes)}`, () => this.#transfer.finish());
    if (row.intent !== null) {
      // An operation of this very memory is still at it: not a crash. Look again later.
      if (this.#queue.length > 0) {
        this.#setAlarm(this.settings.VM_RECOVERY_MS);
        return;
      }
      await this.#queue.run("recover", () => this.#recover());
    } else if (this.#isOverdue(row)) {
      await this.#queue.run("delete", () => this.#perform("delete"));
    }
    await this.#note();
    this.#rearm();
  }

  async #command(accountId: string, command: Command): Promise<Result<VmRecord>> {
    if (this.#visible(accountId) === null) return notFound();
    if (this.#queue.length >= this.settings.VM_QUEUE_MAX) return tooMany();
    return this.#queue.run(command, () => this.#perform(command));
  }

  /** `hostId`: the host that has the disk to begin with; null: any. */
  async #create(hostId: string | null): Promise<Result<VmRecord>> {
    const placed = await this.#place(hostId);
    if (placed.ok) return this.#finishCreate(placed.value);
    // No host has been asked for anything yet, so none has to undo it.
    this.#store.change({ hostId: "", hostUrl: "" });
    await this.#undoCreate();
    return placed;
  }

  async #place(hostId: string | null): Promise<Result<VmRow>> {
    const host = await this.#neighbours.place(this.#store.must(), hostId);
    if (!host.ok) return host;
    const placed = this.#store.change(host.value);
    this.#store.entering();
    const entered = await this.#neighbours.enter(record(placed), placed.spec.slug);
    if (entered.ok) this.#store.noted(placed.updatedAt);
    else if (entered.failure.kind !== "authority-unavailable") this.#store.notEntered();
    return entered.ok ? success(placed) : entered;
  }

  async #finishCreate(row: VmRow): Promise<Result<VmRecord>> {
    const outcome = await this.#host.call(row, "create");
    const mayRest = row.spec.registeredOn !== null;
    if (outcome.ok && (outcome.value.state === "running" || (mayRest && outcome.value.state === "stopped"))) {
      if (row.spec.files.length > 0) this.#store.change({ spec: { ...row.spec, files: [] } });
      return success(await this.#settle(row, outcome.value));
    }
    await this.#undoCreate();
    return outcome.ok ? failure("vm-start-failed", `The machine did not start: it is ${outcome.value.state}.`) : outcome;
  }

  /** A VM that did not come to be is deleted for everybody at once; its machine and place follow, by alarm if need be. */
  async #undoCreate(): Promise<void> {
    const row = this.#narrow({ state: "deleted", intent: "delete" });
    await Promise.all([this.#finishDelete(row), this.#outbox.deliver()]);
  }

  async #perform(command: Command): Promise<Result<VmRecord>> {
    // Nothing is begun on a host that is down; a deletion is, since it need not be waited for.
    const host = command === "delete" ? null : await this.#located(this.#store.must());
    if (host?.ok === false) return host;
    const left = this.#store.must().intent;
    // A crash or a silent host may have left something half-way; it comes first.
    if (left !== null) await this.#recover();
    const before = this.#store.must();
    if (left === "delete" && command === "delete" && before.state === "deleted") return success(record(before));
    if (before.intent !== null && command !== "delete") {
      return failure("host-unavailable", UNANSWERED);
    }
    const step = stepFor(before.state, command);
    if (step.kind === "refuse") return { ok: false, failure: step.failure };
    if (step.kind === "settled") return success(record(before));
    if (command === "delete") {
      const condemned = this.#narrow({ intent: command, attempts: 0 });
      const [deleted] = await Promise.all([this.#finishDelete(condemned), this.#outbox.deliver()]);
      this.#rearm();
      return deleted.ok ? success(record(this.#store.must())) : deleted;
    }
    const row = this.#store.change({ intent: command, attempts: 0 });
    this.#setAlarm(this.settings.VM_RECOVERY_MS);
    const outcome = await this.#onHost(row, (located) => this.#host.call(located, command));
    if (outcome.ok) return success(await this.#settle(row, outcome.value));
    // The host refused, or nobody knows: either way ask it how the machine is before anything is said about it.
    this.#store.change({ intent: "check" });
    if (!isUnsettled(outcome)) await this.#check();
    this.#rearm();
    await this.#note();
    return outcome;
  }

  /** The host is told first: traits that it does not follow must not be shown. */
  async #update(change: VmChange): Promise<Result<VmRecord>> {
    const before = this.#store.must();
    if (before.state === "deleted") return notFound();
    const traits = changedTraits(before.traits, change);
    if (Object.keys(traits.metadata).length > MAX_METADATA_ENTRIES) {
      return failure("bad-request", `metadata: a VM has at most ${MAX_METADATA_ENTRIES} entries.`);
    }
    if (differsInIdleness(before.traits, traits)) {
      const told = await this.#onHost(before, (located) => this.#host.call({ ...located, traits }, "update"));
      if (!told.ok) return told;
    }
    this.#store.change({ traits });
    this.#rearm();
    await this.#note();
    this.#rearm();
    return success(record(this.#store.must()));
  }

  async #resize(wish: MachineResources, growOnly: boolean): Promise<Result<VmRecord>> {
    const row = this.#store.must();
    if (row.state === "deleted") return notFound();
    const refused = refuseSizes(row.resources, wish, growOnly);
    if (refused !== null) return refused;
    const outcome = await this.#onHost(row, (located) => this.#host.resize(located, wish));
    return outcome.ok ? success(await this.#settle(row, outcome.value)) : outcome;
  }

  /** Finds out what became of an intent that was not seen to its end, and finishes or undoes it. */
  async #recover(): Promise<void> {
    const row = this.#store.must();
    const tried = this.#store.change({ attempts: row.attempts + 1 });
    if (tried.intent === "delete") await this.#finishDelete(tried);
    else if (tried.intent === "create") await this.#recoverCreate(tried);
    else if (tried.intent !== null) await this.#check();
    this.#rearm();
  }

  async #recoverCreate(row: VmRow): Promise<void> {
    if (row.hostId === "") {
      await this.#undoCreate();
      return;
    }
    const located = await this.#located(row);
    if (!located.ok) return;
    const outcome = await this.#host.call(located.value, "read");
    if (isUnsettled(outcome)) return;
    const { registeredOn } = row.spec;
    const state = outcome.ok ? outcome.value.state : "missing";
    const isThere = state === "running" || state === "starting" || (registeredOn !== null && state === "stopped");
    // Asking to create it again is idempotent, and answers only once its users are made.
    if (isThere) await this.#finishCreate(located.value);
    else await this.#undoCreate();
  }

  async #check(): Promise<void> {
    const row = this.#store.must();
    const outcome = await this.#onHost(row, (located) => this.#host.call(located, "read"));
    if (outcome.ok) await this.#settle(row, outcome.value);
    else if (outcome.failure.kind === "vm-not-found") await this.#settle(row, { state: "missing", at: row.observedAt });
    else if (!isUnsettled(outcome)) this.#store.change({ intent: null });
  }

  /** Deletes on the host, gives the place back, and ends the intent; what fails is left to the alarm. */
  async #finishDelete(row: VmRow): Promise<Result<null>> {
    const outcome: HostOutcome =
      row.hostId === ""
        ? success({ state: "missing", at: 0 })
        : await this.#onHost(row, (located) => this.#host.call(located, "delete"));
    const isGone = outcome.ok ? outcome.value.state === "missing" : outcome.failure.kind === "vm-not-found";
    if (isGone) {
      const observedAt = outcome.ok ? Math.max(outcome.value.at, row.observedAt) : row.observedAt;
      this.#store.change({ state: "deleted", observedAt });
      if (await this.#neighbours.release(row)) this.#store.change({ intent: null, attempts: 0 });
    }
    await this.#note();
    this.#rearm();
    if (isGone) return success(null);
    return outcome.ok ? failure("internal", "The host did not delete the machine. It will be tried again.") : outcome;
  }

  /** Ends an intent with what the host answered; `asked` is the row as it was before the host was asked. */
  async #settle(asked: VmRow, status: MachineStatus): Promise<VmRecord> {
    const row = this.#store.must();
    // Only what the host told meanwhile can be newer. An answer is else believed whatever its clock says: it may have gone back.
    if (row.observedAt === asked.observedAt || status.at >= row.observedAt) this.#adopt(row, status);
    this.#store.change({ intent: null, attempts: 0 });
    await this.#note();
    this.#rearm();
    return record(this.#store.must());
  }

  #adopt(row: VmRow, { state, at, resources = row.resources }: MachineStatus): void {
    this.#store.change({ state: stateAfter(row.state, state, row.intent), observedAt: at, resources });
  }

  /** Brings the account's index up to date; what fails is left to the alarm. */
  async #note(): Promise<void> {
    const row = this.#store.must();
    this.#watch.tell(row.state);
    if (!mustBeNoted(row)) return;
    if (await this.#neighbours.note(record(row))) this.#store.noted(row.updatedAt);
    else this.#rearm();
  }

  /** Takes the VM away from somebody: the change, the new epoch and its floor stand or fall together. */
  #narrow(change: VmRowChange): VmRow {
    return this.ctx.storage.transactionSync(() => {
      const { id, epoch } = this.#store.must();
      this.#outbox.append({ sub: vmSubject(id), epoch: epoch + 1, at: this.clock() });
      return this.#store.change({ ...change, epoch: epoch + 1 });
    });
  }

  /** The row with the URL at which the host is reached now. */
  async #located(row: VmRow): Promise<Result<VmRow>> {
    const hostUrl = await this.#neighbours.hostUrl(row);
    if (!hostUrl.ok) return hostUrl;
    return success(hostUrl.value === row.hostUrl ? row : this.#store.change({ hostUrl: hostUrl.value }));
  }

  /** Asks the host, unless it is known to be down. */
  async #onHost(row: VmRow, ask: (located: VmRow) => Promise<HostOutcome>): Promise<HostOutcome> {
    const located = await this.#located(row);
    return located.ok ? ask(located.value) : located;
  }

  #rearm(): void {
    const row = this.#store.must();
    const now = this.clock();
    const times: number[] = [];
    const floorDue = this.#outbox.retryInMs();
    if (floorDue !== null) times.push(now + floorDue);
    if (row.intent !== null || mustBeNoted(row) || VmTransfer.isUnderWay(row)) {
      times.push(now + Math.min(this.settings.VM_RECOVERY_MS * 2 ** Math.min(row.attempts, 20), this.settings.VM_RETRY_MAX_MS));
    }
    const due = row.intent === null ? deletionDueAt(row) : null;
    if (due !== null) times.push(Math.max(due, now));
    if (times.length === 0) this.ctx.storage.deleteAlarm();
    else this.ctx.storage.setAlarm(Math.min(...times));
  }

  #isOverdue(row: VmRow): boolean {
    const due = deletionDueAt(row);
    return due !== null && due <= this.clock();
  }

  #setAlarm(inMs: number): void {
    this.ctx.storage.setAlarm(this.clock() + inMs);
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
