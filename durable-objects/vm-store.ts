import type { Clock } from "../protocol/bytes.ts";
import type { MachineResources } from "../protocol/host-api.ts";
import { OUTBOX_TABLE } from "./outbox.ts";
import type { Schema } from "./schema.ts";
import type { VmRecord, VmSpec, VmState, VmTraits } from "./vm-contract.ts";
import { type Intent, isResting, shownState } from "./vm-lifecycle.ts";
import { readSpec, readTraits, traitsOf } from "./vm-spec.ts";

/** The one table of a VM. A deleted VM keeps its row, so that its id is never used again. */
export const VM_SCHEMA: readonly string[] = [
  `CREATE TABLE vm (
     id TEXT PRIMARY KEY, account_id TEXT NOT NULL, name TEXT, spec TEXT NOT NULL, region TEXT NOT NULL,
     host_id TEXT NOT NULL, host_url TEXT NOT NULL, state TEXT NOT NULL, created_at INTEGER NOT NULL,
     updated_at INTEGER NOT NULL, observed_at REAL NOT NULL, intent TEXT, attempts INTEGER NOT NULL,
     noted_at INTEGER NOT NULL
   );`,
  `ALTER TABLE vm ADD COLUMN traits TEXT NOT NULL DEFAULT '{}';
   ALTER TABLE vm ADD COLUMN resources TEXT NOT NULL DEFAULT '{}';
   ALTER TABLE vm ADD COLUMN rested_at INTEGER;
   UPDATE vm SET traits = json_object('name', name);`,
  `ALTER TABLE vm ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1;
   ALTER TABLE vm ADD COLUMN moving_to TEXT;
   ALTER TABLE vm ADD COLUMN left_account TEXT;
   ${OUTBOX_TABLE}`,
  // Whatever moves the VM wakes its object first: this is the epoch at which all grants stood that do not note one.
  `ALTER TABLE vm ADD COLUMN unnoted_epoch INTEGER NOT NULL DEFAULT 1;
   UPDATE vm SET unnoted_epoch = epoch;`,
];

/** `hostId` and `hostUrl` are empty until the VM is placed. */
export interface VmRow {
  readonly id: string;
  readonly accountId: string;
  /** As they are now; `spec` has them as they were asked for. */
  readonly traits: VmTraits;
  /** As they are now, likewise. */
  readonly resources: MachineResources;
  /** What was asked for; its files are forgotten once they are in the guest. */
  readonly spec: VmSpec;
  readonly region: string;
  readonly hostId: string;
  readonly hostUrl: string;
  /** As the host last told; `record` shows it together with the intent. */
  readonly state: VmState;
  readonly createdAt: number;
  readonly updatedAt: number;
  /** The host's time of what it last told; older tellings are ignored. */
  readonly observedAt: number;
  readonly intent: Intent | null;
  /** Since when the VM has not been running; null while it runs or starts. */
  readonly restedAt: number | null;
  /** How often the intent was tried again. */
  readonly attempts: number;
  /** Raised with every change that takes the VM away from somebody. */
  readonly epoch: number;
  /** The epoch of grants that note none. */
  readonly unnotedEpoch: number;
  /** The account that the VM shall belong to; null: the one it has. */
  readonly movingTo: string | null;
  /** The account that had the VM and must still be told that it has it no longer. */
  readonly leftAccount: string | null;
  /** The newest `updatedAt` that the account's index has; 0: it does not have the VM. */
  readonly notedAt: number;
}

type Columns = {
  id: string;
  account_id: string;
  spec: string;
  traits: string;
  resources: string;
  region: string;
  host_id: string;
  host_url: string;
  state: string;
  created_at: number;
  updated_at: number;
  observed_at: number;
  rested_at: number | null;
  intent: string | null;
  attempts: number;
  noted_at: number;
  epoch: number;
  unnoted_epoch: number;
  moving_to: string | null;
  left_account: string | null;
};

export type VmRowChange = Partial<
  Pick<
    VmRow,
    | "accountId"
    | "traits"
    | "resources"
    | "spec"
    | "hostId"
    | "hostUrl"
    | "state"
    | "observedAt"
    | "intent"
    | "attempts"
    | "epoch"
    | "movingTo"
    | "leftAccount"
  >
>;

/** Reads and writes a VM's row; every read goes to storage. */
export class VmStore {
  readonly #sql: SqlStorage;
  readonly #schema: Schema;
  readonly #clock: Clock;

  constructor(sql: SqlStorage, schema: Schema, clock: Clock) {
    this.#sql = sql;
    this.#schema = schema;
    this.#clock = clock;
  }

  /** The row of a VM that was made. */
  must(): VmRow {
    const row = this.read();
    if (row === null) throw new Error("the VM's row is gone");
    return row;
  }

  read(): VmRow | null {
    if (!this.#schema.exists) return null;
    const [row] = this.#sql.exec<Columns>("SELECT * FROM vm").toArray();
    return row === undefined ? null : toRow(row);
  }

  /** Enters a new VM with the intent to create it. */
  insert(vm: { id: string; accountId: string; spec: VmSpec; region: string }): VmRow {
    this.#schema.prepare();
    const now = this.#clock();
    this.#sql.exec(
      `INSERT INTO vm (id, account_id, spec, traits, resources, region, host_id, host_url, state, created_at, updated_at,
         observed_at, intent, attempts, noted_at)
       VALUES (?, ?, ?, ?, ?, ?, '', '', 'starting', ?, ?, 0, 'create', 0, 0)`,
      vm.id,
      vm.accountId,
      JSON.stringify(vm.spec),
      JSON.stringify(traitsOf(vm.spec)),
      JSON.stringify(vm.spec.resources),
      vm.region,
      now,
      now,
    );
    return this.must();
  }

  /** Changes the row. `updatedAt` always rises when what is shown changes, so that the index can order records. */
  change(change: VmRowChange): VmRow {
    const before = this.must();
    const after = { ...before, ...change };
    const isShown = JSON.stringify(record(before)) !== JSON.stringify(record(after));
    const now = this.#clock();
    this.#sql.exec(
      `UPDATE vm SET traits = ?, resources = ?, spec = ?, host_id = ?, host_url = ?, state = ?, observed_at = ?, intent = ?,
         attempts = ?, rested_at = ?, updated_at = ?, account_id = ?, epoch = ?, moving_to = ?, left_account = ?`,
      JSON.stringify(after.traits),
      JSON.stringify(after.resources),
      JSON.stringify(after.spec),
      after.hostId,
      after.hostUrl,
      after.state,
      after.observedAt,
      after.intent,
      after.attempts,
      isResting(after.state) ? (before.restedAt ?? now) : null,
      isShown ? Math.max(now, before.updatedAt + 1) : before.updatedAt,
      after.accountId,
      after.epoch,
      after.movingTo,
      after.leftAccount,
    );
    return this.must();
  }

  /** From now on the account's index may have the VM, whether or not the call that enters it is seen to succeed. */
  entering(): void {
    this.#sql.exec("UPDATE vm SET noted_at = MAX(noted_at, 1)");
  }

  /** The account refused the VM: its index does not have it. */
  notEntered(): void {
    this.#sql.exec("UPDATE vm SET noted_at = 0");
  }

  noted(updatedAt: number): void {
    this.#sql.exec("UPDATE vm SET noted_at = MAX(noted_at, ?)", updatedAt);
  }
}

/** Whether the account's index is behind. */
export function mustBeNoted(row: VmRow): boolean {
  return row.notedAt > 0 && row.notedAt < row.updatedAt;
}

/** What the API shows of a VM. */
export function record(row: VmRow): VmRecord {
  return {
    ...row.traits,
    id: row.id,
    accountId: row.accountId,
    state: shownState(row.state, row.intent),
    region: row.region,
    hostId: row.hostId,
    resources: row.resources,
    snapshotId: row.spec.snapshotId,
    createdAt: row.createdAt,
    updatedAt: row.updatedAt,
  };
}

function toRow(row: Columns): VmRow {
  return {
    id: row.id,
    accountId: row.account_id,
    spec: readSpec(row.spec),
    traits: readTraits(row.traits),
    resources: JSON.parse(row.resources) as MachineResources,
    region: row.region,
    hostId: row.host_id,
    hostUrl: row.host_url,
    state: row.state as VmState,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    observedAt: row.observed_at,
    restedAt: row.rested_at,
    intent: row.intent as Intent | null,
    attempts: row.attempts,
    notedAt: row.noted_at,
    epoch: row.epoch,
    unnotedEpoch: row.unnoted_epoch,
    movingTo: row.moving_to,
    leftAccount: row.left_account,
  };
}
