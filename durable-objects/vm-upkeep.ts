import type { Clock } from "../protocol/bytes.ts";
import { vmSubject } from "../protocol/subjects.ts";
import type { Outbox } from "./outbox.ts";
import type { RestWatch } from "./rest-watch.ts";
import type { Settings } from "./settings.ts";
import { deletionDueAt } from "./vm-deadlines.ts";
import type { VmNeighbours } from "./vm-neighbours.ts";
import { mustBeNoted, record, type VmRow, type VmRowChange, type VmStore } from "./vm-store.ts";
import { VmTransfer } from "./vm-transfer.ts";

export interface VmUpkeepParts {
  readonly storage: DurableObjectStorage;
  readonly store: VmStore;
  readonly neighbours: VmNeighbours;
  readonly outbox: Outbox;
  readonly watch: RestWatch;
  readonly settings: Settings;
  readonly clock: Clock;
}

/** What follows from a change of a VM's row: who must hear of it, and when the alarm must look again. */
export class VmUpkeep {
  readonly #parts: VmUpkeepParts;

  constructor(parts: VmUpkeepParts) {
    this.#parts = parts;
  }

  /** Brings the account's index up to date; what fails is left to the alarm. */
  async note(): Promise<void> {
    const { store, watch, neighbours } = this.#parts;
    const row = store.must();
    watch.tell(row.state);
    if (!mustBeNoted(row)) return;
    if (await neighbours.note(record(row))) store.noted(row.updatedAt);
    else this.rearm();
  }

  /** Takes the VM away from somebody: the change, the new epoch and its floor stand or fall together. Then deliver the outbox. */
  narrow(change: VmRowChange): VmRow {
    const { storage, store, outbox, clock } = this.#parts;
    return storage.transactionSync(() => {
      const { id, epoch } = store.must();
      outbox.append({ sub: vmSubject(id), epoch: epoch + 1, at: clock() });
      return store.change({ ...change, epoch: epoch + 1 });
    });
  }

  deliver(): Promise<void> {
    return this.#parts.outbox.deliver();
  }

  /** Regions that could not be told yet. */
  untold(): string[] {
    return this.#parts.outbox.untold();
  }

  /** Sets the alarm to the next thing that is due, or to nothing. */
  rearm(): void {
    const { storage, store, outbox, settings, clock } = this.#parts;
    const row = store.must();
    const now = clock();
    const times: number[] = [];
    const floorDue = outbox.retryInMs();
    if (floorDue !== null) times.push(now + floorDue);
    if (row.intent !== null || mustBeNoted(row) || VmTransfer.isUnderWay(row)) {
      times.push(now + Math.min(settings.VM_RECOVERY_MS * 2 ** Math.min(row.attempts, 20), settings.VM_RETRY_MAX_MS));
    }
    const due = row.intent === null ? deletionDueAt(row) : null;
    if (due !== null) times.push(Math.max(due, now));
    if (times.length === 0) storage.deleteAlarm();
    else storage.setAlarm(Math.min(...times));
  }

  /** Sets the alarm, whatever else is due. */
  lookAgainIn(ms: number): void {
    this.#parts.storage.setAlarm(this.#parts.clock() + ms);
  }

  /** Whether the VM is to be deleted by itself by now. */
  isOverdue(row: VmRow): boolean {
    const due = deletionDueAt(row);
    return due !== null && due <= this.#parts.clock();
  }
}
