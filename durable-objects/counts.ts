/** Named counters in the table `counts`; change them in the transaction that changes what they count. */
export class Counts {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  get(name: string): number {
    const [row] = this.#sql.exec<{ value: number }>("SELECT value FROM counts WHERE name = ?", name).toArray();
    return row?.value ?? 0;
  }

  add(name: string, change: 1 | -1): void {
    this.#sql.exec(
      "INSERT INTO counts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
      name,
      change,
    );
  }
}
