import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { Clock } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import { isSnapshotId, isVmId } from "../protocol/ids.ts";
import { writeFileAtomically } from "../service/atomic-file.ts";
import type { Log } from "../service/log.ts";
import { diskFull, isDiskFull } from "./disk-full.ts";
import type { DiskRoom } from "./disk-room.ts";
import type { Driver } from "./driver.ts";
import type { ManagedMachine } from "./machine.ts";

const snapshotRecord = z.object({
  snapshotId: z.string().refine(isSnapshotId),
  /** The account, as tickets name it: nobody else's machine may begin with this disk. */
  owner: z.string(),
  sourceVmId: z.string().refine(isVmId),
  /** Milliseconds since 1970 UTC. */
  createdAt: z.number(),
});
type SnapshotRecord = Readonly<z.infer<typeof snapshotRecord>>;

export interface SnapshotsOptions {
  readonly stateDir: string;
  readonly driver: Driver;
  readonly disk: DiskRoom;
  readonly clock: Clock;
  readonly log: Log;
}

/** The disks that this host keeps apart from machines: one record each, mode 0600, in `<state>/snapshots`. */
export class Snapshots {
  readonly #options: SnapshotsOptions;
  readonly #dir: string;

  constructor(options: SnapshotsOptions) {
    this.#options = options;
    this.#dir = join(options.stateDir, "snapshots");
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
  }

  /** Keeps the machine's disk as it is now, whatever the machine does. Repeating it for a snapshot that is there changes nothing. */
  async take(machine: ManagedMachine, snapshotId: string, owner: string): Promise<Result<null>> {
    const { driver, clock, log } = this.#options;
    const refused = driver.refusesTo?.("snapshot");
    if (refused !== undefined) return failure("unsupported", refused);
    const known = this.#read(snapshotId);
    if (known !== null && (known.owner !== owner || known.sourceVmId !== machine.vmId)) {
      return failure("conflict", "A snapshot with this id exists already.");
    }
    const full = known === null ? await this.#options.disk.refusal("The snapshot was not taken.") : null;
    if (full !== null) return full;
    if (known === null) this.#save({ snapshotId, owner, sourceVmId: machine.vmId, createdAt: clock() });
    try {
      await machine.atRest(() => driver.snapshot(machine.vmId, snapshotId));
      return success(null);
    } catch (error) {
      log.error("a snapshot was not taken", { vm: machine.vmId, snapshot: snapshotId, error: String(error) });
      await this.#forget(snapshotId);
      if (isDiskFull(error)) return diskFull("The snapshot was not taken.");
      return failure("snapshot-failed", "The VM's disk could not be captured. Try again; if it stays so, the host needs care.");
    }
  }

  /** Deletes the snapshot of a VM. Nothing to delete is success; another VM's snapshot is not touched. */
  async delete(vmId: string, snapshotId: string): Promise<Result<null>> {
    const known = this.#read(snapshotId);
    if (known === null) return success(null);
    if (known.sourceVmId !== vmId) return failure("snapshot-not-found", "The VM has no such snapshot on this host.");
    const gone = await this.#forget(snapshotId);
    return gone ? success(null) : failure("host-unavailable", "The host could not delete the snapshot. Try again.");
  }

  /** Whether an account's machine may begin with a snapshot: `snapshot-not-found` for another's as for none. */
  check(snapshotId: string, owner: string): Result<null> {
    return this.#read(snapshotId)?.owner === owner
      ? success(null)
      : failure("snapshot-not-found", "The snapshot is not on this host.");
  }

  async #forget(snapshotId: string): Promise<boolean> {
    try {
      await this.#options.driver.deleteSnapshot(snapshotId);
      rmSync(this.#path(snapshotId), { force: true });
      return true;
    } catch (error) {
      // The record stays, so that it can be tried again.
      this.#options.log.error("a snapshot was not deleted", { snapshot: snapshotId, error: String(error) });
      return false;
    }
  }

  #read(snapshotId: string): SnapshotRecord | null {
    const path = this.#path(snapshotId);
    return isSnapshotId(snapshotId) && existsSync(path) ? snapshotRecord.parse(JSON.parse(readFileSync(path, "utf8"))) : null;
  }

  #save(record: SnapshotRecord): void {
    writeFileAtomically(this.#path(record.snapshotId), `${JSON.stringify(record)}\n`);
  }

  #path(snapshotId: string): string {
    return join(this.#dir, `${snapshotId}.json`);
  }
}
