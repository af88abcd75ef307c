import { type FailureKind, type Result, success } from "../protocol/failures.ts";
import { identitySubject } from "../protocol/subjects.ts";
import type { AuditApi, AuditEvent, AuditQuery, AuditRow } from "./audit-contract.ts";
import type { Env } from "./env.ts";
import { StoredObject } from "./stored-object.ts";

const SCHEMA: readonly string[] = [
  `CREATE TABLE events (
     id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, trace_id TEXT NOT NULL, subject TEXT NOT NULL,
     credential_id TEXT, operation TEXT NOT NULL, vm_id TEXT, identity_id TEXT, linux_user TEXT, client_address TEXT,
     verdict TEXT NOT NULL, failure TEXT
   );
   CREATE INDEX events_by_vm ON events (vm_id, id);`,
];

const INSERT_ALL = `
  INSERT INTO events (at, trace_id, subject, credential_id, operation, vm_id, identity_id, linux_user, client_address, verdict,
    failure)
  SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8, value->>9, value->>10
  FROM json_each(?) ORDER BY key`;

/** So many fit into one statement: a value bound to it may have 2 MB (Durable Objects, limits of SQL storage). */
const EVENTS_A_STATEMENT = 1_000;

const DAY_MS = 86_400_000;

type Columns = {
  id: number;
  at: number;
  trace_id: string;
  subject: string;
  credential_id: string | null;
  operation: string;
  vm_id: string | null;
  identity_id: string | null;
  linux_user: string | null;
  client_address: string | null;
  verdict: string;
  failure: string | null;
};

/** An account's audit trail: the newest events, up to an age and a number. */
export class Audit extends StoredObject implements AuditApi {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env, SCHEMA);
  }

  async append(events: readonly AuditEvent[]): Promise<Result<null>> {
    this.schema.prepare();
    this.ctx.storage.transactionSync(() => {
      // Not one statement each, which would cost more to bind and begin than its row.
      for (let first = 0; first < events.length; first += EVENTS_A_STATEMENT) {
        this.sql.exec(INSERT_ALL, JSON.stringify(events.slice(first, first + EVENTS_A_STATEMENT).map(columnsOf)));
      }
      this.#forgetMost();
    });
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(this.clock() + DAY_MS);
    return success(null);
  }

  async list({ vmId, identityId, verdict, before, limit }: AuditQuery): Promise<Result<readonly AuditRow[]>> {
    if (!this.schema.exists) return success([]);
    const conditions: string[] = ["at >= ?"];
    const values: (string | number)[] = [this.#oldestKept()];
    const narrow = (condition: string, ...given: (string | number)[]) => {
      conditions.push(condition);
      values.push(...given);
    };
    if (vmId !== undefined) narrow("vm_id = ?", vmId);
    if (identityId !== undefined) narrow("(identity_id = ? OR subject = ?)", identityId, identitySubject(identityId));
    if (verdict !== undefined) narrow("verdict = ?", verdict);
    if (before !== undefined) narrow("id < ?", before);
    const [most] = this.bounds({ offset: 0, limit });
    const rows = this.sql.exec<Columns>(
      `SELECT * FROM events WHERE ${conditions.join(" AND ")} ORDER BY id DESC LIMIT ?`,
      ...values,
      most,
    );
    return success(rows.toArray().map(toRow));
  }

  /** Forgets what is too old even if the account does nothing more. */
  override async alarm(): Promise<void> {
    if (!this.schema.exists) return;
    this.sql.exec("DELETE FROM events WHERE at < ?", this.#oldestKept());
    const isEmpty = this.sql.exec("SELECT 1 FROM events LIMIT 1").toArray().length === 0;
    if (!isEmpty) await this.ctx.storage.setAlarm(this.clock() + DAY_MS);
  }

  /** Ids have no gaps, so the newest one tells which are too many. */
  #forgetMost(): void {
    this.sql.exec("DELETE FROM events WHERE id <= (SELECT MAX(id) FROM events) - ?", this.settings.AUDIT_MAX_EVENTS);
  }

  #oldestKept(): number {
    return this.clock() - this.settings.AUDIT_KEEP_MS;
  }
}

/** In the order of `INSERT_ALL`. */
function columnsOf(event: AuditEvent): readonly (string | number | null)[] {
  const { at, traceId, subject, credentialId, operation, vmId, identityId, linuxUser, clientAddress, verdict } = event;
  return [at, traceId, subject, credentialId, operation, vmId, identityId, linuxUser, clientAddress, verdict, event.failure];
}

function toRow(row: Columns): AuditRow {
  return {
    id: row.id,
    at: row.at,
    traceId: row.trace_id,
    subject: row.subject,
    credentialId: row.credential_id,
    operation: row.operation,
    vmId: row.vm_id,
    identityId: row.identity_id,
    linuxUser: row.linux_user,
    clientAddress: row.client_address,
    verdict: row.verdict as AuditEvent["verdict"],
    failure: row.failure as FailureKind | null,
  };
}
