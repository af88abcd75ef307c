import { type Result, success } from "../protocol/failures.ts";
import type { VmNeighbours } from "./vm-neighbours.ts";
import { record, type VmRow, type VmStore } from "./vm-store.ts";

/**
 * A VM's way to another account: wished, entered at the new account, moved, told to the old one. Each step is in the row
 * before the next begins and may be taken twice, so that the alarm finishes what a crash cut short.
 */
export class VmTransfer {
  readonly #store: VmStore;
  readonly #neighbours: VmNeighbours;
  readonly #narrow: (change: { accountId: string; movingTo: null; leftAccount: string }) => Promise<void>;

  /** `narrow` makes a change of the row together with a new epoch and its floor. */
  constructor(
    store: VmStore,
    neighbours: VmNeighbours,
    narrow: (change: { accountId: string; movingTo: null; leftAccount: string }) => Promise<void>,
  ) {
    this.#store = store;
    this.#neighbours = neighbours;
    this.#narrow = narrow;
  }

  /** Whether a transfer is under way. */
  static isUnderWay({ movingTo, leftAccount }: VmRow): boolean {
    return movingTo !== null || leftAccount !== null;
  }

  /** Takes the steps that are left. A failure of the new account ends the wish, unless that account cannot be reached. */
  async finish(): Promise<Result<null>> {
    const { movingTo } = this.#store.must();
    if (movingTo !== null) {
      const moved = await this.#move(movingTo);
      if (!moved.ok) return moved;
    }
    const row = this.#store.must();
    if (row.leftAccount !== null) {
      // To the account that had it, the VM is deleted: its slug is free again and it counts no longer.
      const told = await this.#neighbours.note({ ...record(row), accountId: row.leftAccount, state: "deleted" });
      if (told) this.#store.change({ leftAccount: null });
    }
    return success(null);
  }

  async #move(accountId: string): Promise<Result<null>> {
    const row = this.#store.must();
    const entered = await this.#neighbours.enter({ ...record(row), accountId }, null);
    if (!entered.ok) {
      if (entered.failure.kind !== "authority-unavailable") this.#store.change({ movingTo: null });
      return entered;
    }
    await this.#narrow({ accountId, movingTo: null, leftAccount: row.accountId });
    return success(null);
  }
}
