import type { Page } from "./contract.ts";
import { Counts } from "./counts.ts";
import type { ListedVm, VmCounts, VmFilter, VmRecord, VmState } from "./vm-contract.ts";
import { filterClause } from "./vm-filter.ts";
import { PLAIN_VM, traitsOf } from "./vm-spec.ts";

type VmRow = {
  id: string;
  name: string | null;
  state: string;
  region: string;
  host_id: string;
  created_at: number;
  updated_at: number;
  snapshot_id: string | null;
  details: string;
  slug: string | null;
};

/** What only a listing shows, kept as JSON: traits and sizes. */
type Details = Partial<Omit<VmRecord, "id" | "accountId" | "name" | "state">>;

const COLUMNS = "id, name, state, region, host_id, created_at, updated_at, snapshot_id, details";

/** The parts of a page request that `list` needs, with the page's bounds applied by the caller. */
export type VmListQuery = Page & VmFilter;

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

  isLive(vmId: string): boolean {
    return this.#sql.exec("SELECT 1 FROM vms WHERE id = ? AND state <> 'deleted'", vmId).toArray().length > 0;
  }

  /** Enters a VM or its newer record; an older one changes nothing. Call it inside a transaction. */
  put(vm: VmRecord): void {
    const [known] = this.#sql
      .exec<{ state: string; updated_at: number }>("SELECT state, updated_at FROM vms WHERE id = ?", vm.id)
      .toArray();
    if (known !== undefined && known.updated_at > vm.updatedAt) return;
    this.#sql.exec(
      `INSERT OR REPLACE INTO vms (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      vm.id,
      vm.name,
      vm.state,
      vm.region,
      vm.hostId,
      vm.createdAt,
      vm.updatedAt,
      vm.snapshotId,
      JSON.stringify({ ...traitsOf(vm), resources: vm.resources }),
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
    filter: VmFilter,
    [limit, offset]: readonly [number, number],
  ): { vms: readonly ListedVm[]; total: number } {
    const { where, bindings, isIndexed } = filterClause(filter);
    const from = "FROM vms LEFT JOIN slugs ON slugs.vm_id = vms.id";
    const vms = this.#sql
      .exec<VmRow>(
        `SELECT ${COLUMNS}, slugs.slug AS slug ${from} ${where} ORDER BY created_at, id LIMIT ? OFFSET ?`,
        ...bindings,
        limit,
        offset,
      )
      .toArray()
      .map((row) => toListed(accountId, row));
    const total = isIndexed
      ? this.#indexedTotal(filter)
      : this.#sql.exec<{ n: number }>(`SELECT COUNT(*) AS n ${from} ${where}`, ...bindings).one().n;
    return { vms, total };
  }

  #indexedTotal({ state, includeDeleted }: VmFilter): number {
    const counts = this.counts();
    if (state !== undefined) return counts[state];
    const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
    return includeDeleted ? all : all - counts.deleted;
  }
}

function toListed(accountId: string, row: VmRow): ListedVm {
  const details = JSON.parse(row.details) as Details;
  return {
    ...traitsOf({ ...PLAIN_VM, ...details, name: row.name }),
    id: row.id,
    accountId,
    state: row.state as VmState,
    region: row.region,
    hostId: row.host_id,
    resources: details.resources ?? {},
    snapshotId: row.snapshot_id,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    slug: row.slug,
  };
}
