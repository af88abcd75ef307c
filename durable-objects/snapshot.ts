import { type Failure, failure, type Result, success } from "../protocol/failures.ts";
import { regionObjectName } from "../protocol/ids.ts";
import { SNAPSHOT_NOT_FOUND_MESSAGE } from "../protocol/messages.ts";
import type { HostPlace, SnapshotChange, SnapshotRecord, SnapshotWish } from "./contract.ts";
import type { Env } from "./env.ts";
import { HostClient, isUnsettled } from "./host-client.ts";
import type { SnapshotApi } from "./snapshot-contract.ts";
import { SNAPSHOT_SCHEMA, type SnapshotRow, SnapshotStore, snapshotRecord } from "./snapshot-store.ts";
import { StoredObject } from "./stored-object.ts";

/**
 * A snapshot: owner, source and the host that keeps its disk. It is written down before the host is asked, so that after a
 * crash the alarm undoes what nobody saw the end of: a snapshot is ready only if whoever asked for it could be told so.
 */
export class Snapshot extends StoredObject implements SnapshotApi {
  readonly #store: SnapshotStore;
  readonly #host: HostClient;
  /** This very memory is taking the snapshot: then an alarm is no sign of a crash. */
  #taking: Promise<Result<SnapshotRecord>> | null = null;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env, SNAPSHOT_SCHEMA);
    const clock = () => this.clock();
    this.#store = new SnapshotStore(this.sql, this.schema, clock);
    this.#host = new HostClient(env, clock, (length) => this.randomBytes(length));
  }

  async take(accountId: string, snapshotId: string, wish: SnapshotWish, trace?: string): Promise<Result<SnapshotRecord>> {
    if (this.#store.read() !== null) return failure("conflict", "A snapshot with this id exists already.", { taken: "id" });
    const vm = await this.env.VM.getByName(wish.sourceVmId).read(accountId);
    if (!vm.ok) return vm;
    const placement = await this.env.VM.getByName(wish.sourceVmId).placement();
    if (!placement.ok) return placement;
    // Another call for this id may have come while the VM was asked.
    if (this.#store.read() !== null) return failure("conflict", "A snapshot with this id exists already.", { taken: "id" });
    const { region, hostId, hostUrl } = placement.value;
    const { resources } = vm.value;
    this.#store.insert({ ...wish, id: snapshotId, accountId, resources, region, hostId, hostUrl });
    this.#rearm();
    return this.#taken(trace ?? null);
  }

  async taken(accountId: string): Promise<Result<SnapshotRecord>> {
    const row = this.#visible(accountId);
    if (row === null) return notFound();
    // Begun by a memory that is gone, it is begun again, since somebody waits for it: the host takes each only once.
    if (row.intent === "take") return this.#taken(null);
    return row.state === "failed" ? notFound() : success(snapshotRecord(row));
  }

  async read(accountId: string): Promise<Result<SnapshotRecord>> {
    const row = this.#visible(accountId);
    return row === null ? notFound() : success(snapshotRecord(row));
  }

  async change(accountId: string, change: SnapshotChange): Promise<Result<SnapshotRecord>> {
    const row = this.#visible(accountId);
    if (row === null) return notFound();
    // The index is asked first: it alone knows whether the slug is free.
    const wanted = { ...snapshotRecord(row), ...change, updatedAt: Math.max(this.clock(), row.updatedAt + 1) };
    const put = await this.#account(row).putSnapshot(wanted);
    if (!put.ok) return put;
    this.#store.change(change);
    await this.#note();
    return success(snapshotRecord(this.#store.must()));
  }

  async remove(accountId: string, trace?: string): Promise<Result<SnapshotRecord>> {
    const row = this.#visible(accountId);
    if (row === null) return notFound();
    if (row.intent === "take") return failure("snapshot-not-ready", "The snapshot is being taken. Delete it when that is done.");
    this.#store.change({ state: "deleted", intent: "clean", attempts: 0 });
    await this.#clean(trace ?? null);
    return success(snapshotRecord(this.#store.must()));
  }

  async boot(accountId: string): Promise<Result<HostPlace>> {
    const row = this.#visible(accountId);
    if (row === null) return notFound();
    if (row.state !== "ready") {
      const why = row.state === "building" ? "is still being taken" : "could not be taken";
      return failure("snapshot-not-ready", `The snapshot ${why}.`);
    }
    this.#store.change({ lastUsedAt: this.clock() });
    await this.#note();
    return success({ region: row.region, hostId: row.hostId });
  }

  override async alarm(): Promise<void> {
    const row = this.#store.read();
    if (row === null) return;
    if (row.intent === null || this.#taking !== null) {
      await this.#note();
      this.#rearm();
      return;
    }
    this.#store.change({ attempts: row.attempts + 1 });
    if (row.intent === "take") await this.#fail("The service was restarted while the snapshot was taken.", null);
    else await this.#clean(null);
  }

  /** What comes of taking it, for any number of callers. */
  #taken(trace: string | null): Promise<Result<SnapshotRecord>> {
    this.#taking ??= this.#take(trace).finally(() => {
      this.#taking = null;
    });
    return this.#taking;
  }

  async #take(trace: string | null): Promise<Result<SnapshotRecord>> {
    const row = this.#store.must();
    // One that is taken again has its place, and the host may have its disk.
    const entered = row.notedAt === 0 ? await this.#enter(row) : success(null);
    if (!entered.ok) return entered;
    const outcome = await this.#host.call(this.#target(await this.#located(row)), {
      operation: "snapshot",
      method: "POST",
      suffix: "/snapshots",
      body: { snapshotId: row.id },
      limitMs: this.settings.SNAPSHOT_LIMIT_MS,
      trace,
    });
    if (!outcome.ok) {
      await this.#fail(outcome.failure.message, trace);
      return outcome;
    }
    this.#store.change({ state: "ready", intent: null });
    await this.#note();
    this.#rearm();
    return success(snapshotRecord(this.#store.must()));
  }

  /** Takes a place in the account's index. Refused, the snapshot never was, and no host has to undo it. */
  async #enter(row: SnapshotRow): Promise<Result<null>> {
    let refused: Failure;
    try {
      const entered = await this.#account(row).putSnapshot(snapshotRecord(row));
      if (entered.ok) {
        this.#store.change({ notedAt: row.updatedAt });
        return entered;
      }
      refused = entered.failure;
    } catch (error) {
      this.#warn("putSnapshot", error);
      // It may have been entered all the same: then the index must learn that it is gone.
      this.#store.change({ notedAt: 1 });
      refused = failure("authority-unavailable", "The authority could not be reached. Try again shortly.").failure;
    }
    this.#store.change({ state: "deleted", intent: null });
    this.#rearm();
    return { ok: false, failure: refused };
  }

  async #fail(reason: string, trace: string | null): Promise<void> {
    this.#store.change({ state: "failed", failureReason: reason, intent: "clean", attempts: 0 });
    await this.#clean(trace);
  }

  /** Has the host delete the disk; what fails is left to the alarm. */
  async #clean(trace: string | null): Promise<void> {
    const row = await this.#located(this.#store.must());
    const outcome = await this.#host.call(this.#target(row), {
      operation: "snapshot",
      method: "DELETE",
      suffix: `/snapshots/${row.id}`,
      body: null,
      limitMs: this.settings.VM_CALL_LIMIT_MS,
      trace,
    });
    if (!isUnsettled(outcome)) this.#store.change({ intent: null, attempts: 0 });
    await this.#note();
    this.#rearm();
  }

  /** Brings the account's index up to date; what fails is left to the alarm. */
  async #note(): Promise<void> {
    const row = this.#store.must();
    if (!mustBeNoted(row)) return;
    try {
      const noted = await this.#account(row).putSnapshot(snapshotRecord(row));
      if (noted.ok) this.#store.change({ notedAt: row.updatedAt });
    } catch (error) {
      this.#warn("putSnapshot", error);
      this.#rearm();
    }
  }

  /** The row with the URL at which the host is reached now; the last known one is worth a try. */
  async #located(row: SnapshotRow): Promise<SnapshotRow> {
    try {
      const url = await this.env.REGION.getByName(await regionObjectName(row.region)).hostUrl(row.hostId);
      return url.ok && url.value !== row.hostUrl ? this.#store.change({ hostUrl: url.value }) : row;
    } catch (error) {
      this.#warn("hostUrl", error);
      return row;
    }
  }

  #target({ sourceVmId: vmId, accountId, hostId, hostUrl }: SnapshotRow) {
    return { vmId, vmEpoch: "ask" as const, accountId, hostId, hostUrl };
  }

  #account({ accountId }: SnapshotRow) {
    return this.env.ACCOUNT.getByName(accountId);
  }

  #rearm(): void {
    const row = this.#store.must();
    if (row.intent === null && !mustBeNoted(row)) {
      this.ctx.storage.deleteAlarm();
      return;
    }
    const wait = Math.min(this.settings.VM_RECOVERY_MS * 2 ** Math.min(row.attempts, 20), this.settings.VM_RETRY_MAX_MS);
    this.ctx.storage.setAlarm(this.clock() + wait);
  }

  #visible(accountId: string): SnapshotRow | null {
    const row = this.#store.read();
    return row === null || row.state === "deleted" || row.accountId !== accountId ? null : row;
  }

  #warn(call: string, error: unknown): void {
    const { id } = this.#store.must();
    console.warn(JSON.stringify({ message: "a snapshot's neighbour failed", snapshot: id, call, error: String(error) }));
  }
}

/** Whether the account's index is behind. */
function mustBeNoted(row: SnapshotRow): boolean {
  return row.notedAt > 0 && row.notedAt < row.updatedAt;
}

function notFound(): Result<never> {
  return failure("snapshot-not-found", SNAPSHOT_NOT_FOUND_MESSAGE);
}
