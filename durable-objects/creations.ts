import { failure, type Result, success } from "../protocol/failures.ts";

/** What the idempotency keys of an account have made, or are about to. */
export const CREATIONS_TABLE = `CREATE TABLE creations (
    key_hash TEXT PRIMARY KEY, wish_hash TEXT NOT NULL, id TEXT NOT NULL, is_made INTEGER NOT NULL, claimed_at INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX creations_by_age ON creations (claimed_at);`;

/** A wish to make something at most once. The key itself is a client's secret to keep, so only its hash comes here. */
export interface CreationClaim {
  readonly keyHash: string;
  /** Of everything that was asked for: a key stands for one wish. */
  readonly wishHash: string;
  /** The id that the thing shall have if the key is new. */
  readonly id: string;
}

/** The id that a key stands for. `isMade`: somebody has seen it made. */
export interface Claimed {
  readonly id: string;
  readonly isMade: boolean;
}

/** The part of an account that remembers what its idempotency keys made. */
export interface CreationsApi {
  /** The id that the key stands for, from now on if it is new. `conflict` when the key was used for another wish. */
  claimCreation(claim: CreationClaim): Promise<Result<Claimed>>;
  /** What became of it: made, or certainly not, and then the key is free again. */
  settleCreation(keyHash: string, id: string, isMade: boolean): Promise<Result<null>>;
}

/** Reads and writes that table. */
export class Creations {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  /** `forgetBefore`: keys that were claimed before are forgotten, milliseconds since 1970 UTC. */
  claim({ keyHash, wishHash, id }: CreationClaim, now: number, forgetBefore: number): Result<Claimed> {
    this.#sql.exec("DELETE FROM creations WHERE claimed_at < ?", forgetBefore);
    this.#sql.exec("INSERT OR IGNORE INTO creations VALUES (?, ?, ?, 0, ?)", keyHash, wishHash, id, now);
    const known = this.#sql
      .exec<{ wish_hash: string; id: string; is_made: number }>("SELECT * FROM creations WHERE key_hash = ?", keyHash)
      .one();
    if (known.wish_hash === wishHash) return success({ id: known.id, isMade: known.is_made === 1 });
    return failure("conflict", "This Idempotency-Key was sent with another request. Choose a new one for each thing to make.");
  }

  settle(keyHash: string, id: string, isMade: boolean): void {
    if (isMade) this.#sql.exec("UPDATE creations SET is_made = 1 WHERE key_hash = ? AND id = ?", keyHash, id);
    else this.#sql.exec("DELETE FROM creations WHERE key_hash = ? AND id = ?", keyHash, id);
  }
}
