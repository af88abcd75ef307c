import type { Clock } from "../protocol/bytes.ts";
import type { MachineResources } from "../protocol/host-api.ts";
import type { SnapshotRecord, SnapshotState } from "./contract.ts";
import type { Schema } from "./schema.ts";

/** The one table of a snapshot. A deleted snapshot keeps its row, so that its id is never used again. */
export const SNAPSHOT_SCHEMA: readonly string[] = [
  `CREATE TABLE snapshot (
     id TEXT PRIMARY KEY, account_id TEXT NOT NULL, source_vm_id TEXT NOT NULL, name TEXT, slug TEXT, state TEXT NOT NULL,
     failure_reason TEXT, resources TEXT NOT NULL, region TEXT NOT NULL, host_id TEXT NOT NULL, host_url TEXT NOT NULL,
     last_used_at INTEGER, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, intent TEXT, attempts INTEGER NOT NULL,
     noted_at INTEGER NOT NULL
   );`,
];

/** What was begun and not yet seen to its end. `clean`: the host is to delete the disk. */
export type SnapshotIntent = "take" | "clean";

export interface SnapshotRow extends SnapshotRecord {
  readonly region: string;
  readonly hostId: string;
  readonly hostUrl: string;
  readonly intent: SnapshotIntent | null;
  /** How often the intent was tried again. */
  readonly attempts: number;
  /** The newest `updatedAt` that the account's index has; 0: it does not have the snapshot. */
  readonly notedAt: number;
}

type Columns = {
  id: string;
  account_id: string;
  source_vm_id: string;
  name: string | null;
  slug: string | null;
  state: string;
  failure_reason: string | null;
  resources: string;
  region: string;
  host_id: string;
  host_url: string;
  last_used_at: number | null;
  created_at: number;
  updated_at: number;
  intent: string | null;
  attempts: number;
  noted_at: number;
};

type Change = Partial<
  Pick<SnapshotRow, "name" | "slug" | "state" | "failureReason" | "lastUsedAt" | "hostUrl" | "intent" | "attempts" | "notedAt">
>;
type NewSnapshot = Pick<SnapshotRow, "id" | "accountId" | "sourceVmId" | "name" | "slug" | "resources"> &
  Pick<SnapshotRow, "region" | "hostId" | "hostUrl">;

/** Reads and writes a snapshot's row; every read goes to storage. */
export class SnapshotStore {
  readonly #sql: SqlStorage;
  readonly #schema: Schema;
  readonly #clock: Clock;

  constructor(sql: SqlStorage, schema: Schema, clock: Clock) {
    this.#sql = sql;
    this.#schema = schema;
    this.#clock = clock;
  }

  /** The row of a snapshot that was begun. */
  must(): SnapshotRow {
    const row = this.read();
    if (row === null) throw new Error("the snapshot's row is gone");
    return row;
  }

  read(): SnapshotRow | null {
    if (!this.#schema.exists) return null;
    const [row] = this.#sql.exec<Columns>("SELECT * FROM snapshot").toArray();
    return row === undefined ? null : toRow(row);
  }

  /** Enters a new snapshot with the intent to take it. */
  insert(snapshot: NewSnapshot): SnapshotRow {
    this.#schema.prepare();
    const now = this.#clock();
    this.#sql.exec(
      "INSERT INTO snapshot VALUES (?, ?, ?, ?, ?, 'building', NULL, ?, ?, ?, ?, NULL, ?, ?, 'take', 0, 0)",
      snapshot.id,
      snapshot.accountId,
      snapshot.sourceVmId,
      snapshot.name,
      snapshot.slug,
      JSON.stringify(snapshot.resources),
      snapshot.region,
      snapshot.hostId,
      snapshot.hostUrl,
      now,
      now,
    );
    return this.must();
  }

  /** Changes the row. `updatedAt` always rises when what is shown changes, so that the index can order records. */
  change(change: Change): SnapshotRow {
    const before = this.must();
    const after = { ...before, ...change };
    const isShown = JSON.stringify(snapshotRecord(before)) !== JSON.stringify(snapshotRecord(after));
    this.#sql.exec(
      `UPDATE snapshot SET name = ?, slug = ?, state = ?, failure_reason = ?, last_used_at = ?, host_url = ?, intent = ?,
         attempts = ?, noted_at = ?, updated_at = ?`,
      after.name,
      after.slug,
      after.state,
      after.failureReason,
      after.lastUsedAt,
      after.hostUrl,
      after.intent,
      after.attempts,
      after.notedAt,
      isShown ? Math.max(this.#clock(), before.updatedAt + 1) : before.updatedAt,
    );
    return this.must();
  }
}

/** What the API shows of a snapshot. */
export function snapshotRecord(row: SnapshotRow): SnapshotRecord {
  const { id, accountId, sourceVmId, name, slug, state, failureReason, resources, lastUsedAt, createdAt, updatedAt } = row;
  return { id, accountId, sourceVmId, name, slug, state, failureReason, resources, lastUsedAt, createdAt, updatedAt };
}

function toRow(row: Columns): SnapshotRow {
  return {
    id: row.id,
    accountId: row.account_id,
    sourceVmId: row.source_vm_id,
    name: row.name,
    slug: row.slug,
    state: row.state as SnapshotState,
    failureReason: row.failure_reason,
    resources: JSON.parse(row.resources) as MachineResources,
    region: row.region,
    hostId: row.host_id,
    hostUrl: row.host_url,
    lastUsedAt: row.last_used_at,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    intent: row.intent as SnapshotIntent | null,
    attempts: row.attempts,
    notedAt: row.noted_at,
  };
}
