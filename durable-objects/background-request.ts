import { failure, type Result, success } from "../protocol/failures.ts";
import type { BackgroundRecord, BackgroundRequestApi, BackgroundTask, TaskResult } from "./background-contract.ts";
import type { Env } from "./env.ts";
import { StoredObject } from "./stored-object.ts";
import { settlesWithin } from "./time-limit.ts";

const SCHEMA: readonly string[] = [
  "CREATE TABLE request (record TEXT NOT NULL, task TEXT, attempts INTEGER NOT NULL, result TEXT)",
];

type Row = { record: string; task: string | null; attempts: number; result: string | null };

const NOT_FOUND = failure("background-request-not-found", "There is no such request in the background.");

const LOST = failure(
  "authority-unavailable",
  "Nobody knows what became of this request: it was interrupted. Look, then try again.",
);

/**
 * One request that goes on in the background. Its task runs in an alarm, which the platform repeats if the object dies on the
 * way; a repeated task finds what the first began. It forgets itself, with all its storage, when its time is over.
 */
export class BackgroundRequest extends StoredObject implements BackgroundRequestApi {
  readonly #done = Promise.withResolvers<void>();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env, SCHEMA);
  }

  async begin(record: BackgroundRecord, task: BackgroundTask | null): Promise<Result<null>> {
    this.schema.prepare();
    if (this.#row() !== null) return success(null);
    const text = task === null ? null : JSON.stringify(task);
    this.sql.exec("INSERT INTO request (record, task, attempts) VALUES (?, ?, 0)", JSON.stringify(record), text);
    await this.ctx.storage.setAlarm(task === null ? record.expiresAt : this.clock());
    return success(null);
  }

  async ended(waitMs: number): Promise<Result<TaskResult | null>> {
    const row = this.#row();
    if (row === null) return NOT_FOUND;
    if (row.result === null && row.task !== null) await settlesWithin(this.#done.promise, waitMs);
    const result = this.#row()?.result ?? null;
    return success(result === null ? null : (JSON.parse(result) as TaskResult));
  }

  async read(): Promise<Result<BackgroundRecord>> {
    const row = this.#row();
    const record = row === null ? null : (JSON.parse(row.record) as BackgroundRecord);
    return record === null || record.expiresAt <= this.clock() ? NOT_FOUND : success(record);
  }

  override async alarm(): Promise<void> {
    const row = this.#row();
    if (row === null) return;
    const record = JSON.parse(row.record) as BackgroundRecord;
    if (row.task === null || row.result !== null || record.expiresAt <= this.clock()) {
      await this.ctx.storage.deleteAll();
      return;
    }
    this.sql.exec("UPDATE request SET attempts = attempts + 1");
    const result = await this.#perform(record, JSON.parse(row.task) as BackgroundTask);
    // Files of a new VM need not be kept beside it.
    this.sql.exec("UPDATE request SET result = ?, task = ''", JSON.stringify(result));
    await this.ctx.storage.setAlarm(record.expiresAt);
    this.#done.resolve();
  }

  async #perform(record: BackgroundRecord, task: BackgroundTask): Promise<TaskResult> {
    const { accountId, vmId, trace } = record;
    switch (task.kind) {
      case "create": {
        const vm = () => this.env.VM.getByName(vmId);
        const made = await settled(() => vm().create(accountId, vmId, task.spec, trace));
        return { kind: "create", result: await unlessTaken(made, () => vm().created(accountId)) };
      }
      case "snapshot": {
        const { snapshotId, wish } = task;
        const snapshot = () => this.env.SNAPSHOT.getByName(snapshotId);
        const taken = await settled(() => snapshot().take(accountId, snapshotId, wish, trace));
        return { kind: "snapshot", result: await unlessTaken(taken, () => snapshot().taken(accountId)) };
      }
    }
  }

  #row(): Row | null {
    return this.schema.exists ? (this.sql.exec<Row>("SELECT * FROM request").toArray()[0] ?? null) : null;
  }
}

/** Where the id is there already an attempt before this one got so far: then what came of that one. */
async function unlessTaken<T>(made: Result<T>, earlier: () => Promise<Result<T>>): Promise<Result<T>> {
  const isTaken = !made.ok && made.failure.kind === "conflict" && made.failure.details?.taken === "id";
  return isTaken ? settled(earlier) : made;
}

/** An object that breaks leaves open what it did. */
async function settled<T>(call: () => Promise<Result<T>>): Promise<Result<T>> {
  try {
    return await call();
  } catch (error) {
    console.error(JSON.stringify({ message: "a task in the background broke", error: String(error) }));
    return LOST;
  }
}
