import type { Page, VmCounts, VmRecord, VmState } from "./contract.ts";
import { Counts } from "./counts.ts";

type VmRow = {
  id: string;
  name: string | null;
  state: string;
  region: string;
  host_id: string;
  created_at: number;
  updated_at: number;
};

const COLUMNS = "id, name, state, region, host_id, created_at, updated_at";

/** An account's index of its VMs: what lists and quotas read. The VM's own object stays the authority on each. */
export class VmIndex {
  readonly #sql: SqlStorage;
  readonly #counts: Counts;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    this.#counts = new Counts(sql);
  }

  has(vmId: string): boolean {
    return this.#sql.exec("SELECT 1 FROM vms WHERE id = ?", vmId).toArray().length > 0;
  }

  /** Enters a VM or its newer record; an older one changes nothing. Call it inside a transaction. */
  put(vm: VmRecord): void {
    const [known] = this.#sql
      .exec<{ state: string; updated_at: number }>("SELECT state, updated_at FROM vms WHERE id = ?", vm.id)
      .toArray();
    if (known !== undefined && known.updated_at > vm.updatedAt) return;
    this.#sql.exec(
      `INSERT OR REPLACE INTO vms (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      vm.id,
      vm.name,
      vm.state,
      vm.region,
      vm.hostId,
      vm.createdAt,
      vm.updatedAt,
    );
    if (known !== undefined) this.#counts.add(`vm:${known.state}`, -1);
    this.#counts.add(`vm:${vm.state}`, 1);
  }

  counts(): VmCounts {
    const count = (state: VmState) => this.#counts.get(`vm:${state}`);
    return {
      starting: count("starting"),
      running: count("running"),
      suspending: count("suspending"),
      suspended: count("suspended"),
      stopped: count("stopped"),
      deleted: count("deleted"),
      lost: count("lost"),
    };
  }

  /** Oldest first, so that a new VM never moves the pages before it. */
  list(
    accountId: string,
    filter: { readonly includeDeleted: boolean; readonly state?: VmState },
    [limit, offset]: readonly [number, number],
  ): { vms: VmRecord[]; total: number } {
    const counts = this.counts();
    const paging = "ORDER BY created_at, id LIMIT ? OFFSET ?";
    const read = (where: string, ...bindings: (string | number)[]) =>
      this.#sql
        .exec<VmRow>(`SELECT ${COLUMNS} FROM vms ${where} ${paging}`, ...bindings, limit, offset)
        .toArray()
        .map((row) => toRecord(accountId, row));
    if (filter.state !== undefined) return { vms: read("WHERE state = ?", filter.state), total: counts[filter.state] };
    const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
    if (filter.includeDeleted) return { vms: read(""), total: all };
    return { vms: read("WHERE state <> 'deleted'"), total: all - counts.deleted };
  }
}

function toRecord(accountId: string, row: VmRow): VmRecord {
  return {
    id: row.id,
    accountId,
    name: row.name,
    state: row.state as VmState,
    region: row.region,
    hostId: row.host_id,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}

/** The parts of a page request that `list` needs, with the page's bounds applied by the caller. */
export type VmListQuery = Page & { readonly includeDeleted: boolean; readonly state?: VmState };
