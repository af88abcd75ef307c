import type { TokenRow } from "./contract.ts";

type Row = { id: string; name: string | null; created_at: number; expires_at: number | null };

const LIVE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)";

/** The access tokens of one identity. Expiry is a matter of reading: `now` decides. */
export class Tokens {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  insert(token: TokenRow, hash: string): void {
    this.#sql.exec(
      "INSERT INTO tokens (id, hash, name, created_at, expires_at) VALUES (?, ?, ?, ?, ?)",
      token.id,
      hash,
      token.name,
      token.createdAt,
      token.expiresAt,
    );
  }

  /** The live token with this hash. The hash is of 120 random bits, so the time of the look-up helps nobody to guess. */
  withHash(hash: string, now: number): TokenRow | null {
    return this.#live("hash", hash, now);
  }

  /** The live token with this id. */
  withId(tokenId: string, now: number): TokenRow | null {
    return this.#live("id", tokenId, now);
  }

  count(now: number): number {
    return this.#sql.exec<{ n: number }>(`SELECT COUNT(*) AS n FROM tokens WHERE ${LIVE}`, now).one().n;
  }

  list(now: number, [limit, offset]: readonly [number, number]): TokenRow[] {
    return this.#sql
      .exec<Row>(
        `SELECT id, name, created_at, expires_at FROM tokens WHERE ${LIVE} ORDER BY created_at, id LIMIT ? OFFSET ?`,
        now,
        limit,
        offset,
      )
      .toArray()
      .map(toToken);
  }

  revoke(tokenId: string, now: number): void {
    this.#sql.exec("UPDATE tokens SET revoked_at = ? WHERE id = ?", now, tokenId);
  }

  /** When the next token ends by itself after `after`, in milliseconds since 1970 UTC; null: none does. */
  nextExpiry(after: number): number | null {
    return this.#sql
      .exec<{ at: number | null }>("SELECT MIN(expires_at) AS at FROM tokens WHERE revoked_at IS NULL AND expires_at > ?", after)
      .one().at;
  }

  /** Drops rows that ended before `before`; they were kept only to be looked into. */
  prune(before: number): void {
    this.#sql.exec("DELETE FROM tokens WHERE revoked_at < ? OR expires_at < ?", before, before);
  }

  dropAll(): void {
    this.#sql.exec("DELETE FROM tokens");
  }

  #live(column: "id" | "hash", value: string, now: number): TokenRow | null {
    const query = `SELECT id, name, created_at, expires_at FROM tokens WHERE ${column} = ? AND ${LIVE}`;
    const [row] = this.#sql.exec<Row>(query, value, now).toArray();
    return row === undefined ? null : toToken(row);
  }
}

function toToken(row: Row): TokenRow {
  return { id: row.id, name: row.name, createdAt: row.created_at, expiresAt: row.expires_at };
}
