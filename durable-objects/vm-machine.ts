import { failure, type Result, success } from "../protocol/failures.ts";
import type { MachineStatus } from "../protocol/host-api.ts";
import { isUnsettled } from "./host-client.ts";
import type { VmRecord } from "./vm-contract.ts";
import type { HostOutcome, VmHost } from "./vm-host.ts";
import { stateAfter } from "./vm-lifecycle.ts";
import type { VmNeighbours } from "./vm-neighbours.ts";
import { record, type VmRow, type VmStore } from "./vm-store.ts";
import type { VmUpkeep } from "./vm-upkeep.ts";

export interface VmMachineParts {
  readonly store: VmStore;
  readonly host: VmHost;
  readonly neighbours: VmNeighbours;
  readonly upkeep: VmUpkeep;
}

/** A VM's machine on its host: where it is reached, what the host says of it, and how that ends what was begun. */
export class VmMachine {
  readonly #parts: VmMachineParts;

  constructor(parts: VmMachineParts) {
    this.#parts = parts;
  }

  /** The row with the URL at which the host is reached now. */
  async located(row: VmRow): Promise<Result<VmRow>> {
    const { store, neighbours } = this.#parts;
    const hostUrl = await neighbours.hostUrl(row);
    if (!hostUrl.ok) return hostUrl;
    return success(hostUrl.value === row.hostUrl ? row : store.change({ hostUrl: hostUrl.value }));
  }

  /** Asks the host, unless it is known to be down. */
  async ask(row: VmRow, question: (host: VmHost, located: VmRow) => Promise<HostOutcome>): Promise<HostOutcome> {
    const located = await this.located(row);
    return located.ok ? question(this.#parts.host, located.value) : located;
  }

  /** Asks the host how the machine is, which ends what is under way unless nobody knows. */
  async check(): Promise<void> {
    const { store } = this.#parts;
    const row = store.must();
    const outcome = await this.ask(row, (host, located) => host.call(located, "read"));
    if (outcome.ok) await this.settle(row, outcome.value);
    else if (outcome.failure.kind === "vm-not-found") await this.settle(row, { state: "missing", at: row.observedAt });
    else if (!isUnsettled(outcome)) store.change({ intent: null });
  }

  /** Deletes on the host, gives the place back, and ends the intent; what fails is left to the alarm. */
  async finishDelete(row: VmRow): Promise<Result<null>> {
    const { store, neighbours, upkeep } = this.#parts;
    const outcome: HostOutcome =
      row.hostId === ""
        ? success({ state: "missing", at: 0 })
        : await this.ask(row, (host, located) => host.call(located, "delete"));
    const isGone = outcome.ok ? outcome.value.state === "missing" : outcome.failure.kind === "vm-not-found";
    if (isGone) {
      const observedAt = outcome.ok ? Math.max(outcome.value.at, row.observedAt) : row.observedAt;
      store.change({ state: "deleted", observedAt });
      if (await neighbours.release(row)) store.change({ intent: null, attempts: 0 });
    }
    await upkeep.note();
    upkeep.rearm();
    if (isGone) return success(null);
    return outcome.ok ? failure("internal", "The host did not delete the machine. It will be tried again.") : outcome;
  }

  /** Ends an intent with what the host answered; `asked` is the row as it was before the host was asked. */
  async settle(asked: VmRow, status: MachineStatus): Promise<VmRecord> {
    const { store, upkeep } = this.#parts;
    const row = store.must();
    // Only what the host told meanwhile can be newer. An answer is else believed whatever its clock says: it may have gone back.
    if (row.observedAt === asked.observedAt || status.at >= row.observedAt) this.adopt(row, status);
    store.change({ intent: null, attempts: 0 });
    await upkeep.note();
    upkeep.rearm();
    return record(store.must());
  }

  adopt(row: VmRow, { state, at, resources = row.resources }: MachineStatus): void {
    this.#parts.store.change({ state: stateAfter(row.state, state, row.intent), observedAt: at, resources });
  }
}
