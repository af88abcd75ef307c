import type { Clock } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import type { FeedUpstream } from "../protocol/feed.ts";
import type { HostRow, PlaceWish } from "./contract.ts";
import type { FeedSockets, Hello } from "./feed-sockets.ts";
import { beyondEveryHost, chooseHost, type HostLoad } from "./placement.ts";
import type { Settings } from "./settings.ts";

/** What hosts tell of themselves since the first release, and what placement remembers of each VM. */
export const HOST_LOAD_COLUMNS = `
  ALTER TABLE hosts ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
  ALTER TABLE hosts ADD COLUMN load TEXT NOT NULL DEFAULT '{}';
  ALTER TABLE hosts ADD COLUMN loaded_at INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE hosts ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE hosts ADD COLUMN connected INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE placements ADD COLUMN account_id TEXT;
  ALTER TABLE placements ADD COLUMN spread_group TEXT;
  ALTER TABLE placements ADD COLUMN memory INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE placements ADD COLUMN placed_at INTEGER NOT NULL DEFAULT 0;
  CREATE INDEX placements_by_group ON placements (account_id, spread_group);`;

type HostHello = Extract<Hello, { role: "host" }>;
type HostLoadMessage = Extract<FeedUpstream, { type: "host-load" }>;
type Details = Partial<Pick<HostHello, "cpus" | "memory" | "vmMemory">>;
type Load = Partial<Omit<HostLoadMessage, "type">>;

type Columns = {
  id: string;
  url: string;
  driver: string;
  version: string;
  capacity: number;
  last_seen_at: number;
  details: string;
  load: string;
  loaded_at: number;
  draining: number;
  connected: number;
  vm_count: number;
  /** Memory of the VMs that were placed since the host told its load. */
  placed_memory: number;
};

/** A VM for which nothing about its place was said. */
const ANYWHERE: PlaceWish = { onHost: null, accountId: null, driver: null, spreadGroup: null, resources: {} };

const FULL = failure("no-capacity", "No host has room for another VM at the moment. Try again later.");
const UNKNOWN = failure("host-unavailable", "The VM's host is not connected at the moment. Try again shortly.");

/**
 * The hosts of a region and which VM is placed on which. A host is connected while it sends heartbeats; it is down once it was not
 * heard for `HOST_SILENCE_MS`. Between the two it may only have lost its feed, and is worth a try.
 */
export class RegionHosts {
  readonly #sql: SqlStorage;
  readonly #sockets: FeedSockets;
  readonly #clock: Clock;

  constructor(sql: SqlStorage, sockets: FeedSockets, clock: Clock) {
    this.#sql = sql;
    this.#sockets = sockets;
    this.#clock = clock;
  }

  /** Enters a host that has said hello, or what is new about it. What the operator decided about it stays. */
  enter(hello: HostHello): { readonly draining: boolean } {
    const { cpus, memory, vmMemory } = hello;
    this.#sql.exec(
      `INSERT INTO hosts (id, url, driver, version, capacity, last_seen_at, details, connected) VALUES (?, ?, ?, ?, ?, ?, ?, 1)
       ON CONFLICT (id) DO UPDATE SET url = excluded.url, driver = excluded.driver, version = excluded.version,
         capacity = excluded.capacity, last_seen_at = excluded.last_seen_at, details = excluded.details, connected = 1`,
      hello.id,
      hello.url.replace(/\/+$/, ""),
      hello.driver,
      hello.version,
      hello.capacity,
      this.#clock(),
      JSON.stringify({ cpus, memory, vmMemory }),
    );
    return { draining: this.#sql.exec("SELECT 1 FROM hosts WHERE id = ? AND draining = 1", hello.id).toArray().length > 0 };
  }

  noteLoad(hostId: string, { type: _type, ...load }: HostLoadMessage): void {
    this.#sql.exec("UPDATE hosts SET load = ?, loaded_at = ? WHERE id = ?", JSON.stringify(load), this.#clock(), hostId);
  }

  /** A host's socket closed. */
  noteGone(hostId: string): void {
    const now = this.#clock();
    this.#sql.exec("UPDATE hosts SET last_seen_at = MAX(last_seen_at, ?), connected = 0 WHERE id = ?", now, hostId);
  }

  /** Whether there is such a host; from now on it takes new VMs, or not. */
  setDraining(hostId: string, draining: boolean): boolean {
    this.#sql.exec("UPDATE hosts SET draining = ? WHERE id = ?", draining ? 1 : 0, hostId);
    return this.#sql.exec("SELECT 1 FROM hosts WHERE id = ?", hostId).toArray().length > 0;
  }

  list(settings: Settings): HostRow[] {
    return this.#rows().map((row) => {
      const heardAt = this.#heardAt(row);
      const load = JSON.parse(row.load) as Load;
      const { cpus, memory } = JSON.parse(row.details) as Details;
      const { id, url, driver, version, capacity } = row;
      return {
        id,
        url,
        driver,
        version,
        capacity,
        vmCount: row.vm_count,
        running: load.running ?? null,
        connected: this.#isConnected(row, heardAt, settings),
        down: this.#isDown(heardAt, settings),
        draining: row.draining === 1,
        cpus: cpus ?? null,
        memory: memory ?? null,
        freeMemory: load.freeMemory ?? null,
        freeDisk: load.freeDisk ?? null,
        lastSeenAt: heardAt,
      };
    });
  }

  /** The host's URL; `host-down` when it has been silent for too long to be tried. */
  url(hostId: string, settings: Settings): Result<string> {
    const row = this.#rows(hostId)[0];
    if (row === undefined) return UNKNOWN;
    const heardAt = this.#heardAt(row);
    if (!this.#isDown(heardAt, settings)) return success(row.url);
    const seconds = Math.round((this.#clock() - heardAt) / 1000);
    return failure("host-down", `The machine that runs this VM is down: it was last heard ${seconds} seconds ago.`, { hostId });
  }

  place(vmId: string, wish: Partial<PlaceWish>, settings: Settings): Result<{ hostId: string; hostUrl: string }> {
    const rows = this.#rows();
    const { onHost, accountId, driver, spreadGroup, resources } = { ...ANYWHERE, ...wish };
    const [placed] = this.#sql.exec<{ host_id: string }>("SELECT host_id FROM placements WHERE vm_id = ?", vmId).toArray();
    const known = rows.find(({ id }) => id === placed?.host_id);
    if (known !== undefined) return success({ hostId: known.id, hostUrl: known.url });
    const loads = rows.map((row) => this.#loadOf(row, settings));
    const asked = loads.find(({ id }) => id === onHost);
    if (onHost !== null && asked?.isConnected !== true) {
      return failure("host-unavailable", "The host that keeps the snapshot is not connected at the moment. Try again shortly.");
    }
    const avoid = spreadGroup === null ? new Set<string>() : this.#hostsOfGroup(accountId, spreadGroup);
    // Who registers a machine that is there names its host, which makes none.
    const isThere = asked?.driver === "static" && asked.vmCount < asked.capacity;
    const among = onHost === null ? loads : loads.filter(({ id }) => id === onHost);
    const chosen = isThere ? asked : chooseHost(among, { driver, resources, avoid });
    if (chosen === null) {
      const never = beyondEveryHost(loads, resources);
      return never === null ? FULL : failure("vm-create-bad-request", never);
    }
    this.#sql.exec(
      `INSERT OR REPLACE INTO placements (vm_id, host_id, account_id, spread_group, memory, placed_at) VALUES (?, ?, ?, ?, ?, ?)`,
      vmId,
      chosen.id,
      accountId,
      spreadGroup,
      resources.memory ?? chosen.vmMemory ?? 0,
      this.#clock(),
    );
    const hostUrl = rows.find(({ id }) => id === chosen.id)?.url ?? "";
    return success({ hostId: chosen.id, hostUrl });
  }

  release(vmId: string): void {
    this.#sql.exec("DELETE FROM placements WHERE vm_id = ?", vmId);
  }

  #hostsOfGroup(accountId: string | null, group: string): Set<string> {
    const rows = this.#sql.exec<{ host_id: string }>(
      "SELECT DISTINCT host_id FROM placements WHERE account_id = ? AND spread_group = ?",
      accountId,
      group,
    );
    return new Set(rows.toArray().map(({ host_id }) => host_id));
  }

  #loadOf(row: Columns, settings: Settings): HostLoad {
    const { cpus, memory, vmMemory } = JSON.parse(row.details) as Details;
    const { freeMemory, freeDisk } = JSON.parse(row.load) as Load;
    return {
      id: row.id,
      driver: row.driver,
      isConnected: this.#isConnected(row, this.#heardAt(row), settings),
      isDraining: row.draining === 1,
      capacity: row.capacity,
      vmCount: row.vm_count,
      cpus: cpus ?? null,
      memory: memory ?? null,
      freeMemory: freeMemory === undefined ? null : freeMemory - row.placed_memory,
      freeDisk: freeDisk ?? null,
      vmMemory: vmMemory ?? null,
    };
  }

  #isConnected({ id }: Columns, heardAt: number, settings: Settings): boolean {
    return this.#sockets.hosts().has(id) && !this.#isDown(heardAt, settings);
  }

  #isDown(heardAt: number, settings: Settings): boolean {
    return this.#clock() - heardAt > settings.HOST_SILENCE_MS;
  }

  /** When a host was last heard, in milliseconds. One whose socket was lost unnoticed, as in a restart, counts from the moment that shows. */
  #heardAt(row: Columns): number {
    const heartbeat = this.#sockets.hosts().get(row.id);
    if (heartbeat !== undefined) return Math.max(row.last_seen_at, heartbeat);
    if (row.connected === 0) return row.last_seen_at;
    this.noteGone(row.id);
    return Math.max(row.last_seen_at, this.#clock());
  }

  #rows(hostId: string | null = null): Columns[] {
    return this.#sql
      .exec<Columns>(
        `SELECT hosts.*, (SELECT COUNT(*) FROM placements WHERE host_id = hosts.id) AS vm_count,
           (SELECT COALESCE(SUM(memory), 0) FROM placements WHERE host_id = hosts.id AND placed_at >= hosts.loaded_at)
             AS placed_memory
         FROM hosts WHERE ? IS NULL OR id = ? ORDER BY id`,
        hostId,
        hostId,
      )
      .toArray();
  }
}
