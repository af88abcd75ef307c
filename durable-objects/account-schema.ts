import { CREATIONS_TABLE } from "./creations.ts";
import { OUTBOX_BY_SUBJECT, OUTBOX_TABLE } from "./outbox.ts";
import { SLUGS_TABLE } from "./slugs.ts";
import { SNAPSHOTS_TABLE } from "./snapshot-index.ts";

/**
 * Tables of an account. `counts` holds the numbers that lists and quotas need, kept in the same transactions as the rows,
 * so that they cost the same however many rows there are.
 */
export const ACCOUNT_SCHEMA: readonly string[] = [
  `CREATE TABLE account (id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at INTEGER NOT NULL, epoch INTEGER NOT NULL);
   CREATE TABLE keys (
     id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, name TEXT, created_at INTEGER NOT NULL, revoked_at INTEGER
   );
   CREATE INDEX keys_live ON keys (created_at, id) WHERE revoked_at IS NULL;
   CREATE TABLE vms (
     id TEXT PRIMARY KEY, name TEXT, state TEXT NOT NULL, region TEXT NOT NULL, host_id TEXT NOT NULL,
     created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
   );
   CREATE INDEX vms_all ON vms (created_at, id);
   CREATE INDEX vms_live ON vms (created_at, id) WHERE state <> 'deleted';
   CREATE INDEX vms_by_state ON vms (state, created_at, id);
   CREATE TABLE identities (id TEXT PRIMARY KEY, managed INTEGER NOT NULL, created_at INTEGER NOT NULL);
   CREATE INDEX identities_all ON identities (created_at, id);
   CREATE INDEX identities_unmanaged ON identities (created_at, id) WHERE managed = 0;
   CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
   ${OUTBOX_TABLE}`,
  `ALTER TABLE vms ADD COLUMN snapshot_id TEXT;
   ALTER TABLE vms ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
   ${SLUGS_TABLE}`,
  SNAPSHOTS_TABLE,
  CREATIONS_TABLE,
  `ALTER TABLE account ADD COLUMN tenancy_epoch INTEGER NOT NULL DEFAULT 1;
   ALTER TABLE account ADD COLUMN suspended_at INTEGER;
   ${OUTBOX_BY_SUBJECT}`,
];
