import { FLOOR_COUNT_TABLE } from "./region-floors.ts";
import { HOST_COUNTS, HOST_LOAD_COLUMNS } from "./region-hosts.ts";
import { SERVICES_TABLES } from "./region-services.ts";

/** Tables of a region. Who is connected is not among them: that is for the open sockets to say. */
export const REGION_SCHEMA: readonly string[] = [
  `CREATE TABLE region (name TEXT PRIMARY KEY);
   CREATE TABLE service_keys (
     id TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, name TEXT, created_at INTEGER NOT NULL, revoked_at INTEGER
   );
   CREATE TABLE hosts (
     id TEXT PRIMARY KEY, url TEXT NOT NULL, driver TEXT NOT NULL, version TEXT NOT NULL, capacity INTEGER NOT NULL,
     last_seen_at INTEGER NOT NULL
   );
   CREATE TABLE placements (vm_id TEXT PRIMARY KEY, host_id TEXT NOT NULL) WITHOUT ROWID;
   CREATE INDEX placements_by_host ON placements (host_id);
   CREATE TABLE floors (sub TEXT PRIMARY KEY, epoch INTEGER NOT NULL, at INTEGER NOT NULL, received_at INTEGER NOT NULL)
     WITHOUT ROWID;
   CREATE INDEX floors_by_age ON floors (received_at);`,
  `CREATE TABLE ssh_sessions (
     id TEXT PRIMARY KEY, forwarder_id TEXT NOT NULL, account_id TEXT NOT NULL, sub TEXT NOT NULL, vm_id TEXT NOT NULL,
     linux_user TEXT NOT NULL, credential_id TEXT NOT NULL, address TEXT NOT NULL, since INTEGER NOT NULL
   ) WITHOUT ROWID;
   CREATE INDEX ssh_sessions_by_account ON ssh_sessions (account_id, since);
   CREATE INDEX ssh_sessions_by_forwarder ON ssh_sessions (forwarder_id);`,
  SERVICES_TABLES,
  FLOOR_COUNT_TABLE,
  "CREATE TABLE voided_keys (kid TEXT PRIMARY KEY, received_at INTEGER NOT NULL) WITHOUT ROWID;",
  HOST_LOAD_COLUMNS,
  HOST_COUNTS,
];
