import type { Result } from "../protocol/failures.ts";
import type { Subject } from "../protocol/subjects.ts";
import type { SnapshotRecord, SnapshotWish } from "./contract.ts";
import type { VmRecord, VmSpec } from "./vm-contract.ts";

/** A request that goes on in the background: whose it is and where its result will be. */
export interface BackgroundRecord {
  /** `exec`: a job of the same id on the VM's host has the result. The others: this object does the work and has it. */
  readonly kind: "exec" | BackgroundTask["kind"];
  /** Who asked; nobody else may ask for the result. */
  readonly subject: Subject;
  readonly accountId: string;
  readonly vmId: string;
  /** As whom it runs; null where nobody in the guest acts. */
  readonly linuxUser: string | null;
  /** When it is forgotten, milliseconds since 1970 UTC. */
  readonly expiresAt: number;
  /** Trace id of the request that began it. Absent: entered before this was noted. */
  readonly trace?: string;
}

/** What the object does itself. */
export type BackgroundTask =
  | { readonly kind: "create"; readonly spec: VmSpec }
  | { readonly kind: "snapshot"; readonly snapshotId: string; readonly wish: SnapshotWish };

/** What came of a task. */
export type TaskResult =
  | { readonly kind: "create"; readonly result: Result<VmRecord> }
  | { readonly kind: "snapshot"; readonly result: Result<SnapshotRecord> };

/** Object name: the id of the request. */
export interface BackgroundRequestApi {
  /** Enters the request, and begins its task if it has one. An id is used once; entering it again is success. */
  begin(record: BackgroundRecord, task: BackgroundTask | null): Promise<Result<null>>;
  /** The result of the task, as soon as there is one; null after `waitMs`. */
  ended(waitMs: number): Promise<Result<TaskResult | null>>;
  /** `background-request-not-found` when it never was, or is forgotten. */
  read(): Promise<Result<BackgroundRecord>>;
}
