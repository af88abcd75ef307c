import { regionObjectName } from "../protocol/ids.ts";
import type { Env } from "./env.ts";
import { readRegions, type Settings } from "./settings.ts";
import { settlesWithin } from "./time-limit.ts";

/** Ticket keys that were withdrawn, and the regions that were not told of the newest yet. */
export const VOIDING_TABLES = `
  CREATE TABLE voided (kid TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE untold (region TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;`;

/** Withdrawn ticket keys on their way to every region: at least once, until acknowledged. */
export class KeyVoiding {
  readonly #storage: DurableObjectStorage;
  readonly #env: Env;
  readonly #settings: Settings;

  constructor(storage: DurableObjectStorage, env: Env, settings: Settings) {
    this.#storage = storage;
    this.#env = env;
    this.#settings = settings;
  }

  /** Call it inside the transaction that withdraws. */
  add(kids: readonly string[], now: number): void {
    this.#sql.exec("DELETE FROM voided WHERE at < ?", now - this.#settings.KEY_VOID_KEEP_MS);
    for (const kid of kids) this.#sql.exec("INSERT OR REPLACE INTO voided (kid, at) VALUES (?, ?)", kid, now);
    for (const region of readRegions(this.#env.REGIONS)) {
      this.#sql.exec("INSERT OR REPLACE INTO untold (region, at) VALUES (?, ?)", region, now);
    }
  }

  /** Tells every region that was not told yet, all at once, and waits at most `FLOOR_DELIVERY_MS`. */
  async deliver(): Promise<void> {
    const tries = this.untold().map((region) => this.#deliverTo(region));
    await settlesWithin(Promise.all(tries), this.#settings.FLOOR_DELIVERY_MS);
  }

  /** Regions of the deployment that were not told yet. */
  untold(): readonly string[] {
    const tables = this.#sql.exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'untold'").toArray();
    if (tables.length === 0) return [];
    const rows = this.#sql.exec<{ region: string }>("SELECT region FROM untold ORDER BY region").toArray();
    return rows.map((row) => row.region).filter((region) => readRegions(this.#env.REGIONS).includes(region));
  }

  async #deliverTo(region: string): Promise<void> {
    const kids = this.#sql.exec<{ kid: string; at: number }>("SELECT kid, at FROM voided ORDER BY at").toArray();
    const newest = kids.at(-1)?.at ?? 0;
    try {
      await this.#env.REGION.getByName(await regionObjectName(region)).voidKeys(kids.map((row) => row.kid));
    } catch (error) {
      console.warn(JSON.stringify({ message: "a region was not told of withdrawn keys", region, error: String(error) }));
      return;
    }
    // Keys that were withdrawn meanwhile are another delivery's.
    this.#sql.exec("DELETE FROM untold WHERE region = ? AND at <= ?", region, newest);
  }

  get #sql(): SqlStorage {
    return this.#storage.sql;
  }
}
