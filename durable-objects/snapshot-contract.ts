import type { Result } from "../protocol/failures.ts";
import type { HostPlace, SnapshotChange, SnapshotRecord, SnapshotWish } from "./contract.ts";

/** Object name: the snapshot id. Another account's snapshot does not exist, nor does a deleted one. `trace`: as in `VmApi`. */
export interface SnapshotApi {
  /** Captures the VM's disk and answers when that is done. Finished or undone by alarm if it dies half-way. */
  take(accountId: string, snapshotId: string, wish: SnapshotWish, trace?: string): Promise<Result<SnapshotRecord>>;
  /** The snapshot once its taking has ended. */
  taken(accountId: string): Promise<Result<SnapshotRecord>>;
  read(accountId: string): Promise<Result<SnapshotRecord>>;
  change(accountId: string, change: SnapshotChange): Promise<Result<SnapshotRecord>>;
  /** VMs that began with it stay. */
  remove(accountId: string, trace?: string): Promise<Result<SnapshotRecord>>;
  /** Where a VM must be placed to begin with it; counts as use. `snapshot-not-ready` unless it is ready. */
  boot(accountId: string): Promise<Result<HostPlace>>;
}
