import type { JWK } from "jose";
import type { RandomBytes } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import { newRowId } from "../protocol/ids.ts";
import { CREDENTIAL_INVALID_MESSAGE } from "../protocol/messages.ts";
import type { EnrolmentRequest } from "../protocol/service-api.ts";
import { checkAssertion, type ServiceId, serviceIdOf } from "../protocol/service-assertion.ts";
import type { JoinTokenWish, ServiceRow, ServiceStanding } from "./service-contract.ts";

/**
 * Hosts and forwarders by their own keys, and the tokens with which they enrolled. A service key enrols any number of them,
 * a join token exactly one. `assertions` are those that were used and have not expired.
 */
export const SERVICES_TABLES = `
  CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, host_id TEXT, name TEXT, created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL, service_id TEXT
  );
  CREATE TABLE services (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, host_id TEXT, public_key TEXT NOT NULL, name TEXT, enrolled_by TEXT NOT NULL,
    created_at INTEGER NOT NULL, revoked_at INTEGER
  );
  CREATE UNIQUE INDEX services_live_host ON services (host_id) WHERE host_id IS NOT NULL AND revoked_at IS NULL;
  CREATE UNIQUE INDEX services_live_key ON services (public_key) WHERE revoked_at IS NULL;
  CREATE INDEX services_by_enroller ON services (enrolled_by);
  CREATE TABLE assertions (until INTEGER NOT NULL, jti TEXT NOT NULL, PRIMARY KEY (until, jti)) WITHOUT ROWID;`;

type Columns = {
  id: string;
  kind: EnrolmentRequest["kind"];
  host_id: string | null;
  public_key: string;
  name: string | null;
  enrolled_by: string;
  created_at: number;
};
type TokenColumns = { id: string; kind: string; host_id: string | null; name: string | null; service_id: string | null };

/** What lets a service enrol. */
interface Sponsor {
  readonly id: string;
  readonly name: string | null;
  /** Null: any. */
  readonly kind: string | null;
  readonly hostId: string | null;
  /** What a join token has been used for already. */
  readonly usedFor: string | null;
}

const INVALID = failure("credential-invalid", CREDENTIAL_INVALID_MESSAGE);

export class RegionServices {
  readonly #storage: DurableObjectStorage;
  readonly #randomBytes: RandomBytes;

  constructor(storage: DurableObjectStorage, randomBytes: RandomBytes) {
    this.#storage = storage;
    this.#randomBytes = randomBytes;
  }

  addServiceKey(id: string, hash: string, name: string | null, now: number): void {
    this.#sql.exec("INSERT INTO service_keys (id, hash, name, created_at) VALUES (?, ?, ?, ?)", id, hash, name, now);
  }

  /** Revokes a service key and everything that was enrolled with it; answers those services' ids, or null if there is no such key. */
  revokeServiceKey(id: string, now: number): readonly string[] | null {
    const live = this.#sql.exec("SELECT 1 FROM service_keys WHERE id = ? AND revoked_at IS NULL", id).toArray();
    if (live.length === 0) return null;
    return this.#storage.transactionSync(() => {
      this.#sql.exec("UPDATE service_keys SET revoked_at = ? WHERE id = ?", now, id);
      return this.#sql
        .exec<{ id: string }>(
          "UPDATE services SET revoked_at = ? WHERE enrolled_by = ? AND revoked_at IS NULL RETURNING id",
          now,
          id,
        )
        .toArray()
        .map((row) => row.id);
    });
  }

  addJoinToken(id: string, hash: string, { kind, hostId, name }: JoinTokenWish, now: number, expiresAt: number): void {
    // Those that expired say nothing any more; the services that they enrolled stay.
    this.#sql.exec("DELETE FROM join_tokens WHERE expires_at < ?", now);
    this.#sql.exec(
      "INSERT INTO join_tokens (id, hash, kind, host_id, name, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
      id,
      hash,
      kind,
      hostId,
      name,
      now,
      expiresAt,
    );
  }

  /** Revokes a join token that was not used; a service that it enrolled is revoked by its own id. */
  revokeJoinToken(id: string): boolean {
    return this.#sql.exec("DELETE FROM join_tokens WHERE id = ? AND service_id IS NULL RETURNING id", id).toArray().length > 0;
  }

  /** Enrols a service. Answers its id, and the id of the one whose place it takes (a host that lost its key). */
  enrol(
    regionObjectName: string,
    secretHash: string,
    request: EnrolmentRequest,
    now: number,
  ): Result<{ serviceId: ServiceId; replaced: string | null }> {
    const sponsor = this.#sponsor(secretHash, now);
    if (sponsor === null) return INVALID;
    const hostId = request.kind === "host" ? request.hostId : null;
    const known = this.#live("public_key", request.publicKey.x);
    if (known !== null) {
      // An answer that got lost on its way.
      const isSame = known.enrolled_by === sponsor.id && known.kind === request.kind && known.host_id === hostId;
      return isSame
        ? success({ serviceId: serviceIdOf(regionObjectName, known.id), replaced: null })
        : failure("conflict", "This key is enrolled already.");
    }
    if (sponsor.usedFor !== null) return INVALID;
    if (sponsor.kind !== null && sponsor.kind !== request.kind) {
      return failure("forbidden", `This join token is for a ${sponsor.kind}, not for a ${request.kind}.`);
    }
    if (sponsor.hostId !== null && sponsor.hostId !== hostId) {
      return failure("forbidden", "This join token is for a host with another id.");
    }
    const holder = hostId === null ? null : this.#live("host_id", hostId);
    if (holder !== null && sponsor.hostId === null) {
      return failure(
        "conflict",
        "A host with this id is enrolled already. If it is this one and its key is lost, use a join token that names its id.",
      );
    }
    const id = newRowId(this.#randomBytes);
    this.#storage.transactionSync(() => {
      if (holder !== null) this.#sql.exec("UPDATE services SET revoked_at = ? WHERE id = ?", now, holder.id);
      this.#sql.exec(
        `INSERT INTO services (id, kind, host_id, public_key, name, enrolled_by, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
        id,
        request.kind,
        hostId,
        request.publicKey.x,
        sponsor.name,
        sponsor.id,
        now,
      );
      this.#sql.exec("UPDATE join_tokens SET service_id = ? WHERE id = ?", id, sponsor.id);
    });
    return success({ serviceId: serviceIdOf(regionObjectName, id), replaced: holder?.id ?? null });
  }

  /** Who made an assertion. Uses it up: the same one is refused from now on. */
  async check(serviceId: ServiceId, rowId: string, assertion: string, issuer: string, now: number): Promise<Columns | null> {
    const row = this.withId(rowId);
    if (row === null) return null;
    const publicKey: JWK = { kty: "OKP", crv: "Ed25519", x: row.public_key };
    const checked = await checkAssertion(assertion, { serviceId, publicKey, issuer, now });
    // Verifying awaits; the service may have been revoked meanwhile.
    if (checked === null || this.withId(rowId) === null) return null;
    this.#sql.exec("DELETE FROM assertions WHERE until < ?", Math.floor(now / 1000));
    const used = this.#sql.exec(
      "INSERT OR IGNORE INTO assertions (until, jti) VALUES (?, ?) RETURNING jti",
      checked.until,
      `${rowId}:${checked.jti}`,
    );
    return used.toArray().length === 1 ? row : null;
  }

  /** A live service. */
  withId(rowId: string): Columns | null {
    return this.#live("id", rowId);
  }

  revoke(rowId: string, now: number): boolean {
    return (
      this.#sql.exec("UPDATE services SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL RETURNING id", now, rowId).toArray()
        .length > 0
    );
  }

  list(regionObjectName: string, [limit, offset]: readonly [number, number]): ServiceRow[] {
    return this.#sql
      .exec<Columns>("SELECT * FROM services WHERE revoked_at IS NULL ORDER BY created_at, id LIMIT ? OFFSET ?", limit, offset)
      .toArray()
      .map((row) => ({
        id: serviceIdOf(regionObjectName, row.id),
        kind: row.kind,
        hostId: row.host_id,
        name: row.name,
        enrolledBy: row.enrolled_by,
        createdAt: row.created_at,
      }));
  }

  count(): number {
    return this.#sql.exec<{ n: number }>("SELECT COUNT(*) AS n FROM services WHERE revoked_at IS NULL").one().n;
  }

  #sponsor(hash: string, now: number): Sponsor | null {
    const [token] = this.#sql
      .exec<TokenColumns>(
        "SELECT id, kind, host_id, name, service_id FROM join_tokens WHERE hash = ? AND expires_at >= ?",
        hash,
        now,
      )
      .toArray();
    if (token !== undefined) {
      return { id: token.id, name: token.name, kind: token.kind, hostId: token.host_id, usedFor: token.service_id };
    }
    const [key] = this.#sql
      .exec<{ id: string; name: string | null }>("SELECT id, name FROM service_keys WHERE hash = ? AND revoked_at IS NULL", hash)
      .toArray();
    return key === undefined ? null : { ...key, kind: null, hostId: null, usedFor: null };
  }

  #live(column: "id" | "host_id" | "public_key", value: string): Columns | null {
    const query = `SELECT * FROM services WHERE ${column} = ? AND revoked_at IS NULL`;
    return this.#sql.exec<Columns>(query, value).toArray()[0] ?? null;
  }

  get #sql(): SqlStorage {
    return this.#storage.sql;
  }
}

/** What a service is, to those who ask about an assertion. */
export function standingOf(serviceId: ServiceId, region: string, row: Columns): ServiceStanding {
  return { serviceId, region, kind: row.kind, hostId: row.host_id };
}
