import type { GrantHold, GrantRow } from "./contract.ts";
import { epochOf } from "./grant-epoch.ts";
import type { VmEpochs } from "./vm-contract.ts";

type Row = {
  vm_id: string;
  id: string;
  allowed_users: string | null;
  granted_at: number;
  granted_by: string;
  vm_epoch: number | null;
};

const COLUMNS = "vm_id, id, allowed_users, granted_at, granted_by, vm_epoch";

/** The grants of one identity: one row a VM. */
export class Grants {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  get(identityId: string, vmId: string): GrantRow | null {
    const [row] = this.#sql.exec<Row>(`SELECT ${COLUMNS} FROM grants WHERE vm_id = ?`, vmId).toArray();
    return row === undefined ? null : toGrant(identityId, row);
  }

  count(): number {
    return this.#sql.exec<{ n: number }>("SELECT COUNT(*) AS n FROM grants").one().n;
  }

  list(identityId: string, [limit, offset]: readonly [number, number]): GrantRow[] {
    return this.#sql
      .exec<Row>(`SELECT ${COLUMNS} FROM grants ORDER BY granted_at, vm_id LIMIT ? OFFSET ?`, limit, offset)
      .toArray()
      .map((row) => toGrant(identityId, row));
  }

  put(grant: GrantRow): void {
    this.#sql.exec(
      `INSERT OR REPLACE INTO grants (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)`,
      grant.vmId,
      grant.id,
      grant.allowedUsers === null ? null : JSON.stringify(grant.allowedUsers),
      grant.grantedAt,
      grant.grantedBy,
      grant.vmEpoch,
    );
  }

  drop(vmId: string): void {
    this.#sql.exec("DELETE FROM grants WHERE vm_id = ?", vmId);
  }
}

function toGrant(identityId: string, row: Row): GrantRow {
  return {
    id: row.id,
    identityId,
    vmId: row.vm_id,
    allowedUsers: row.allowed_users === null ? null : (JSON.parse(row.allowed_users) as string[]),
    grantedAt: row.granted_at,
    grantedBy: row.granted_by,
    vmEpoch: row.vm_epoch,
  };
}

/** Whether the account lost the VM since it granted it; `vm`: as it is now, or was a moment ago. */
export function isOver(grant: GrantHold, vm: VmEpochs): boolean {
  return epochOf(grant, vm) < vm.epoch;
}

/** Whether somebody whom `before` admitted is no longer admitted by `after`; `null` admits every Linux user. */
export function isNarrower(before: readonly string[] | null, after: readonly string[] | null): boolean {
  if (after === null) return false;
  return before === null || before.some((user) => !after.includes(user));
}
