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

/**
 * How many VMs a host has, counted as they come and go, and an index for what was placed on it lately: what placing a VM costs
 * must not grow with the VMs that there are.
 */
export const HOST_COUNTS = `
  ALTER TABLE hosts ADD COLUMN vm_count INTEGER NOT NULL DEFAULT 0;
  UPDATE hosts SET vm_count = (SELECT COUNT(*) FROM placements WHERE host_id = hosts.id);
  DROP INDEX placements_by_host;
  CREATE INDEX placements_by_host ON placements (host_id, placed_at);`;

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
};

/** When each connected host was last heard, by its id. */
type Heard = ReadonlyMap<string, number>;

/** A VM for which nothing about its place was said. */
const ANYWHERE: PlaceWish = { onHost: null, accountId: null, driver: null, spreadGroup: null, resources: {} };

const FULL = failure("no-capacity", "No host has room for another VM at the moment. Try again later.");
const UNKNOWN = failure("host-unavailable", "The VM's host is not connected at the moment. Try again shortly.");

/**
 * The hosts of a region and which VM is placed on which. A host is connected while it sends heartbeats; it is down once it was not
 * heard for `HOST_SILENCE_MS`. Between the two it may only have lost its feed, and is worth a try.
 */
export class RegionHosts {
  readonly #storage: DurableObjectStorage;
  readonly #sockets: FeedSockets;
  readonly #clock: Clock;

  constructor(storage: DurableObjectStorage, sockets: FeedSockets, clock: Clock) {
    this.#storage = storage;
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
    const heard = this.#sockets.hosts();
    return this.#rows().map((row) => {
      const heardAt = this.#heardAt(row, heard);
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
        connected: heard.has(id) && !this.#isDown(heardAt, settings),
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
    const row = this.#row(hostId);
    if (row === null) return UNKNOWN;
    const heardAt = this.#heardAt(row, this.#sockets.hosts());
    if (!this.#isDown(heardAt, settings)) return success(row.url);
    const seconds = Math.round((this.#clock() - heardAt) / 1000);
    return failure("host-down", `The machine that runs this VM is down: it was last heard ${seconds} seconds ago.`, { hostId });
  }

  place(vmId: string, wish: Partial<PlaceWish>, settings: Settings): Result<{ hostId: string; hostUrl: string }> {
    const { onHost, accountId, driver, spreadGroup, resources } = { ...ANYWHERE, ...wish };
    const placed = this.#placed(vmId);
    const known = placed === null ? null : this.#row(placed);
    if (known !== null) return success({ hostId: known.id, hostUrl: known.url });
    const rows = this.#rows();
    const heard = this.#sockets.hosts();
    const loads = rows.map((row) => this.#loadOf(row, heard, settings));
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
    this.#storage.transactionSync(() => {
      // Of a host that is not known any more there may be a place left.
      this.release(vmId);
      this.#sql.exec(
        `INSERT INTO placements (vm_id, host_id, account_id, spread_group, memory, placed_at) VALUES (?, ?, ?, ?, ?, ?)`,
        vmId,
        chosen.id,
        accountId,
        spreadGroup,
        resources.memory ?? chosen.vmMemory ?? 0,
        this.#clock(),
      );
      this.#sql.exec("UPDATE hosts SET vm_count = vm_count + 1 WHERE id = ?", chosen.id);
    });
    const hostUrl = rows.find(({ id }) => id === chosen.id)?.url ?? "";
    return success({ hostId: chosen.id, hostUrl });
  }

  release(vmId: string): void {
    this.#storage.transactionSync(() => {
      const hostId = this.#placed(vmId);
      if (hostId === null) return;
      this.#sql.exec("DELETE FROM placements WHERE vm_id = ?", vmId);
      this.#sql.exec("UPDATE hosts SET vm_count = vm_count - 1 WHERE id = ?", hostId);
    });
  }

  #placed(vmId: string): string | null {
    const rows = this.#sql.exec<{ host_id: string }>("SELECT host_id FROM placements WHERE vm_id = ?", vmId).toArray();
    return rows[0]?.host_id ?? null;
  }

  #hostsOfGroup(accountId: string | null, group: string): Set<string> {
    const rows = this.#sql.exec<{ host_id: string }>(
      "SELECT DISTINCT host_id FROM placements WHERE account_id = ? AND spread_group = ?",
      accountId,
      group,
    );
    return new Set(rows.toArray().map(({ host_id }) => host_id));
  }

  #loadOf(row: Columns, heard: Heard, settings: Settings): HostLoad {
    const { cpus, memory, vmMemory } = JSON.parse(row.details) as Details;
    const { freeMemory, freeDisk } = JSON.parse(row.load) as Load;
    return {
      id: row.id,
      driver: row.driver,
      isConnected: heard.has(row.id) && !this.#isDown(this.#heardAt(row, heard), settings),
      isDraining: row.draining === 1,
      capacity: row.capacity,
      vmCount: row.vm_count,
      cpus: cpus ?? null,
      memory: memory ?? null,
      freeMemory: freeMemory === undefined ? null : freeMemory - this.#placedMemory(row),
      freeDisk: freeDisk ?? null,
      vmMemory: vmMemory ?? null,
    };
  }

  /** Memory of the VMs that were placed since the host told its load. */
  #placedMemory({ id, loaded_at: since }: Columns): number {
    const sum = "SELECT COALESCE(SUM(memory), 0) AS n FROM placements WHERE host_id = ? AND placed_at >= ?";
    return this.#sql.exec<{ n: number }>(sum, id, since).one().n;
  }

  #isDown(heardAt: number, settings: Settings): boolean {
    return this.#clock() - heardAt > settings.HOST_SILENCE_MS;
  }

  /** When a host was last heard, in milliseconds. One whose socket was lost unnoticed, as in a restart, counts from the moment that shows. */
  #heardAt(row: Columns, heard: Heard): number {
    const heartbeat = heard.get(row.id);
    if (heartbeat !== undefined) return Math.max(row.last_seen_at, heartbeat);
    if (row.connected === 0) return row.last_seen_at;
    this.noteGone(row.id);
    return Math.max(row.last_seen_at, this.#clock());
  }

  #row(hostId: string): Columns | null {
    return this.#sql.exec<Columns>("SELECT * FROM hosts WHERE id = ?", hostId).toArray()[0] ?? null;
  }

  #rows(): Columns[] {
    return this.#sql.exec<Columns>("SELECT * FROM hosts ORDER BY id").toArray();
  }

  get #sql(): SqlStorage {
    return this.#storage.sql;
  }
}
