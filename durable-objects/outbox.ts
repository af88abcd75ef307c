import type { Clock } from "../protocol/bytes.ts";
import type { Floor } from "../protocol/floors.ts";
import { regionObjectName } from "../protocol/ids.ts";
import type { Subject } from "../protocol/subjects.ts";
import type { Env } from "./env.ts";
import { readRegions, type Settings } from "./settings.ts";
import { settlesWithin } from "./time-limit.ts";

/**
 * One row for each region that has not acknowledged the subject's newest floor. A floor is a lower bound, so a newer one
 * takes the place of an older one and the table never outgrows the list of regions.
 */
export const OUTBOX_TABLE = `CREATE TABLE outbox (
  region TEXT PRIMARY KEY, sub TEXT NOT NULL, epoch INTEGER NOT NULL, at INTEGER NOT NULL, attempts INTEGER NOT NULL
) WITHOUT ROWID;`;

/** The same for an object with more than one subject; takes the rows of the older table with it. */
export const OUTBOX_BY_SUBJECT = `ALTER TABLE outbox RENAME TO outbox_of_one;
CREATE TABLE outbox (
  region TEXT NOT NULL, sub TEXT NOT NULL, epoch INTEGER NOT NULL, at INTEGER NOT NULL, attempts INTEGER NOT NULL,
  PRIMARY KEY (region, sub)
) WITHOUT ROWID;
INSERT INTO outbox SELECT region, sub, epoch, at, attempts FROM outbox_of_one;
DROP TABLE outbox_of_one;`;

type Pending = { region: string; sub: string; epoch: number; at: number; attempts: number };

/** Floors of an object's subjects on their way to every region: at least once, until acknowledged. */
export class Outbox {
  readonly #storage: DurableObjectStorage;
  readonly #env: Env;
  readonly #settings: Settings;
  readonly #clock: Clock;

  constructor(storage: DurableObjectStorage, env: Env, settings: Settings, clock: Clock) {
    this.#storage = storage;
    this.#env = env;
    this.#settings = settings;
    this.#clock = clock;
  }

  /** Adds a floor for every region and sets the alarm. Call it inside the transaction that narrows. */
  append(floor: Floor): void {
    for (const region of readRegions(this.#env.REGIONS)) {
      this.#storage.sql.exec(
        "INSERT OR REPLACE INTO outbox (region, sub, epoch, at, attempts) VALUES (?, ?, ?, ?, 0)",
        region,
        floor.sub,
        floor.epoch,
        floor.at,
      );
    }
    this.#storage.setAlarm(this.#clock() + this.#settings.FLOOR_DELIVERY_MS + this.#settings.FLOOR_RETRY_MIN_MS);
  }

  /** Tries every region that still lacks the newest floor, all at once, and waits at most `FLOOR_DELIVERY_MS`. */
  async deliver(): Promise<void> {
    const attempts = this.#pending().map((row) => this.#deliverOne(row));
    await settlesWithin(Promise.all(attempts), this.#settings.FLOOR_DELIVERY_MS);
  }

  /** Regions that have not acknowledged a floor yet. */
  untold(): string[] {
    return [...new Set(this.#pending().map(({ region }) => region))];
  }

  /** Milliseconds until the next attempt is due; `null` when every region has acknowledged. */
  retryInMs(): number | null {
    const attempts = this.#pending().map((row) => row.attempts);
    if (attempts.length === 0) return null;
    const wait = this.#settings.FLOOR_RETRY_MIN_MS * 2 ** Math.max(Math.min(...attempts) - 1, 0);
    return Math.min(wait, this.#settings.FLOOR_RETRY_MAX_MS);
  }

  #pending(): Pending[] {
    const regions = readRegions(this.#env.REGIONS);
    const rows = this.#storage.sql.exec<Pending>("SELECT region, sub, epoch, at, attempts FROM outbox").toArray();
    return rows.filter((row) => {
      if (regions.includes(row.region)) return true;
      // The region has left the deployment: nobody there is to be told.
      this.#storage.sql.exec("DELETE FROM outbox WHERE region = ?", row.region);
      return false;
    });
  }

  async #deliverOne(row: Pending): Promise<void> {
    this.#storage.sql.exec("UPDATE outbox SET attempts = attempts + 1 WHERE region = ? AND sub = ?", row.region, row.sub);
    try {
      const name = await regionObjectName(row.region);
      // A new stub for each attempt: a stub that has thrown may stay broken.
      const region = this.#env.REGION.getByName(name);
      await region.deliverFloors([{ sub: row.sub as Subject, epoch: row.epoch, at: row.at }]);
    } catch (error) {
      console.warn(JSON.stringify({ message: "a floor was not delivered", region: row.region, error: String(error) }));
      return;
    }
    this.#storage.sql.exec("DELETE FROM outbox WHERE region = ? AND sub = ? AND epoch <= ?", row.region, row.sub, row.epoch);
  }
}
