import { OUTBOX_TABLE } from "./outbox.ts";

/** Tables of an identity. A removed identity keeps its one row, so that its id is never used again. */
export const IDENTITY_SCHEMA: readonly string[] = [
  `CREATE TABLE identity (
     id TEXT PRIMARY KEY, account_id TEXT NOT NULL, managed INTEGER NOT NULL, created_at INTEGER NOT NULL,
     epoch INTEGER NOT NULL, removed_at INTEGER, listed INTEGER NOT NULL
   );
   CREATE TABLE tokens (
     id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, name TEXT, created_at INTEGER NOT NULL, expires_at INTEGER,
     revoked_at INTEGER
   );
   CREATE INDEX tokens_live ON tokens (created_at, id) WHERE revoked_at IS NULL;
   CREATE TABLE grants (
     vm_id TEXT PRIMARY KEY, id TEXT NOT NULL, allowed_users TEXT, granted_at INTEGER NOT NULL, granted_by TEXT NOT NULL
   );
   CREATE INDEX grants_all ON grants (granted_at, vm_id);
   ${OUTBOX_TABLE}`,
  `ALTER TABLE identity ADD COLUMN swept_at INTEGER NOT NULL DEFAULT 0;
   CREATE INDEX tokens_expiring ON tokens (expires_at) WHERE expires_at IS NOT NULL AND revoked_at IS NULL;`,
  "ALTER TABLE grants ADD COLUMN vm_epoch INTEGER;",
];
