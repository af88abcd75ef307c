import type { Floor } from "../protocol/floors.ts";
import type { Subject } from "../protocol/subjects.ts";

/** Adds the count of all floors that were ever sent, by which verifiers notice that one was lost. */
export const FLOOR_COUNT_TABLE = "CREATE TABLE floor_count (n INTEGER NOT NULL); INSERT INTO floor_count VALUES (0);";

/** A floor with its number among all that the region has sent. */
export interface NumberedFloor {
  readonly floor: Floor;
  readonly number: number;
}

/** The floors that a region keeps for verifiers that join late. */
export class RegionFloors {
  readonly #storage: DurableObjectStorage;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
  }

  /** Keeps floors, drops those received before `before`, and numbers the new ones. `now`: milliseconds since 1970 UTC. */
  keep(floors: readonly Floor[], now: number, before: number): NumberedFloor[] {
    const { sql } = this.#storage;
    return this.#storage.transactionSync(() => {
      const sent = this.sent();
      sql.exec("DELETE FROM floors WHERE received_at < ?", before);
      for (const floor of floors) {
        sql.exec(
          `INSERT INTO floors (sub, epoch, at, received_at) VALUES (?, ?, ?, ?) ON CONFLICT (sub) DO UPDATE
           SET epoch = excluded.epoch, at = excluded.at, received_at = excluded.received_at WHERE excluded.epoch > epoch`,
          floor.sub,
          floor.epoch,
          floor.at,
          now,
        );
      }
      sql.exec("UPDATE floor_count SET n = ?", sent + floors.length);
      return floors.map((floor, index) => ({ floor, number: sent + index + 1 }));
    });
  }

  /** Numbers something else that no verifier may miss. */
  count(): number {
    return this.#storage.sql.exec<{ n: number }>("UPDATE floor_count SET n = n + 1 RETURNING n").one().n;
  }

  /** How many floors were sent so far. */
  sent(): number {
    return this.#storage.sql.exec<{ n: number }>("SELECT n FROM floor_count").one().n;
  }

  /** Floors received since `since`, oldest first. */
  since(since: number): Floor[] {
    return this.#storage.sql
      .exec<{ sub: string; epoch: number; at: number }>(
        "SELECT sub, epoch, at FROM floors WHERE received_at >= ? ORDER BY received_at",
        since,
      )
      .toArray()
      .map((row) => ({ sub: row.sub as Subject, epoch: row.epoch, at: row.at }));
  }
}
