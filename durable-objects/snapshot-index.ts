import { failure, type Result, success } from "../protocol/failures.ts";
import type { SnapshotCounts, SnapshotFilter, SnapshotRecord, SnapshotState } from "./contract.ts";
import { Counts } from "./counts.ts";

/** `record` is the whole record as JSON; the columns are what it is found by. */
export const SNAPSHOTS_TABLE = `CREATE TABLE snapshots (
     id TEXT PRIMARY KEY, slug TEXT UNIQUE, source_vm_id TEXT NOT NULL, state TEXT NOT NULL, record TEXT NOT NULL,
     created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
   );
   CREATE INDEX snapshots_by_state ON snapshots (state, created_at, id);
   CREATE INDEX snapshots_by_source ON snapshots (source_vm_id, created_at, id);`;

/** An account's index of its snapshots. The snapshot's own object stays the authority on each. */
export class SnapshotIndex {
  readonly #sql: SqlStorage;
  readonly #counts: Counts;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    this.#counts = new Counts(sql);
  }

  counts(): SnapshotCounts {
    const count = (state: SnapshotState) => this.#counts.get(`snapshot:${state}`);
    return { building: count("building"), ready: count("ready"), failed: count("failed"), deleted: count("deleted") };
  }

  /** Enters a snapshot or its newer record; an older one changes nothing. Call it inside a transaction. */
  put(snapshot: SnapshotRecord, most: number): Result<null> {
    const { id, state, sourceVmId, createdAt, updatedAt } = snapshot;
    const [known] = this.#sql
      .exec<{ state: string; updated_at: number }>("SELECT state, updated_at FROM snapshots WHERE id = ?", id)
      .toArray();
    if (known !== undefined && known.updated_at > updatedAt) return success(null);
    const { building, ready, failed } = this.counts();
    if (known === undefined && building + ready + failed >= most) {
      return failure("snapshot-quota-exceeded", `This account has ${most} snapshots, the most it may have.`);
    }
    // What is gone gives its slug back.
    const slug = state === "deleted" || state === "failed" ? null : snapshot.slug;
    const holder = slug === null ? null : this.withSlug(slug);
    if (holder !== null && holder !== id) return failure("conflict", `Another snapshot of this account has the slug "${slug}".`);
    this.#sql.exec(
      `INSERT OR REPLACE INTO snapshots (id, slug, source_vm_id, state, record, created_at, updated_at)
       VALUES (?, ?, ?, ?, ?, ?, ?)`,
      id,
      slug,
      sourceVmId,
      state,
      JSON.stringify(snapshot),
      createdAt,
      updatedAt,
    );
    if (known !== undefined) this.#counts.add(`snapshot:${known.state}`, -1);
    this.#counts.add(`snapshot:${state}`, 1);
    return success(null);
  }

  withSlug(slug: string): string | null {
    const [row] = this.#sql.exec<{ id: string }>("SELECT id FROM snapshots WHERE slug = ?", slug).toArray();
    return row?.id ?? null;
  }

  /** Oldest first, so that a new snapshot never moves the pages before it. */
  list(filter: SnapshotFilter, [limit, offset]: readonly [number, number]): { snapshots: SnapshotRecord[]; total: number } {
    const states = filter.states.map(() => "?").join(", ");
    const where = `WHERE state IN (${states}) ${filter.sourceVmId === null ? "" : "AND source_vm_id = ?"}`;
    const bindings = [...filter.states, ...(filter.sourceVmId === null ? [] : [filter.sourceVmId])];
    const rows = this.#sql
      .exec<{ record: string }>(
        `SELECT record FROM snapshots ${where} ORDER BY created_at, id LIMIT ? OFFSET ?`,
        ...bindings,
        limit,
        offset,
      )
      .toArray();
    const { total } = this.#sql.exec<{ total: number }>(`SELECT COUNT(*) AS total FROM snapshots ${where}`, ...bindings).one();
    return { snapshots: rows.map((row) => JSON.parse(row.record) as SnapshotRecord), total };
  }
}
