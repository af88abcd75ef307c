/**
 * The SQL schema of one object, brought up to date step by step. Objects on SQLite have no `PRAGMA user_version`, so a
 * table `meta` counts the steps that were taken.
 *
 * Nothing is written until `prepare`: asking an object that was never made leaves no storage behind.
 */
export class Schema {
  readonly #storage: DurableObjectStorage;
  readonly #steps: readonly string[];
  #ready = false;

  /** `steps`: SQL scripts, only ever appended to. */
  constructor(storage: DurableObjectStorage, steps: readonly string[]) {
    this.#storage = storage;
    this.#steps = steps;
    if (this.#taken() > 0) this.prepare();
  }

  /** Whether the tables exist. */
  get exists(): boolean {
    return this.#ready;
  }

  /** Makes the tables, or takes the steps that are new since they were made. Idempotent. */
  prepare(): void {
    if (this.#ready) return;
    const { sql } = this.#storage;
    this.#storage.transactionSync(() => {
      sql.exec("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID");
      for (const step of this.#steps.slice(this.#taken())) sql.exec(step);
      sql.exec("INSERT OR REPLACE INTO meta (key, value) VALUES ('schema', ?)", this.#steps.length);
    });
    this.#ready = true;
  }

  #taken(): number {
    const { sql } = this.#storage;
    const tables = sql.exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'").toArray();
    if (tables.length === 0) return 0;
    const [row] = sql.exec<{ value: number }>("SELECT value FROM meta WHERE key = 'schema'").toArray();
    return row?.value ?? 0;
  }
}
