import { failure, type Result, success } from "../protocol/failures.ts";
import { isUnsettled } from "./host-client.ts";
import type { VmRecord } from "./vm-contract.ts";
import type { VmHost } from "./vm-host.ts";
import type { VmMachine } from "./vm-machine.ts";
import type { VmNeighbours } from "./vm-neighbours.ts";
import { record, type VmRow, type VmStore } from "./vm-store.ts";
import type { VmUpkeep } from "./vm-upkeep.ts";

export interface VmCreationParts {
  readonly store: VmStore;
  readonly neighbours: VmNeighbours;
  readonly host: VmHost;
  readonly machine: VmMachine;
  readonly upkeep: VmUpkeep;
}

/** How a VM comes to be: a place, an entry in its account, a machine; or how every trace of the attempt goes again. */
export class VmCreation {
  readonly #parts: VmCreationParts;

  constructor(parts: VmCreationParts) {
    this.#parts = parts;
  }

  /** Of the VM that was entered. `hostId`: the host that has the disk to begin with; null: any. */
  async begin(hostId: string | null): Promise<Result<VmRecord>> {
    const placed = await this.#place(hostId);
    if (placed.ok) return this.#finish(placed.value);
    // No host has been asked for anything yet, so none has to undo it.
    this.#parts.store.change({ hostId: "", hostUrl: "" });
    await this.#undo();
    return placed;
  }

  /** Finishes or undoes what a crash cut short; leaves it to the next time when nobody knows how the machine is. */
  async recover(row: VmRow): Promise<void> {
    if (row.hostId === "") {
      await this.#undo();
      return;
    }
    const { host, machine } = this.#parts;
    const located = await machine.located(row);
    if (!located.ok) return;
    const outcome = await host.call(located.value, "read");
    if (isUnsettled(outcome)) return;
    const { registeredOn } = row.spec;
    const state = outcome.ok ? outcome.value.state : "missing";
    const isThere = state === "running" || state === "starting" || (registeredOn !== null && state === "stopped");
    // Asking to create it again is idempotent, and answers only once its users are made.
    if (isThere) await this.#finish(located.value);
    else await this.#undo();
  }

  async #place(hostId: string | null): Promise<Result<VmRow>> {
    const { store, neighbours } = this.#parts;
    const host = await neighbours.place(store.must(), hostId);
    if (!host.ok) return host;
    const placed = store.change(host.value);
    store.entering();
    const entered = await neighbours.enter(record(placed), placed.spec.slug);
    if (entered.ok) store.noted(placed.updatedAt);
    else if (entered.failure.kind !== "authority-unavailable") store.notEntered();
    return entered.ok ? success(placed) : entered;
  }

  async #finish(row: VmRow): Promise<Result<VmRecord>> {
    const { store, host, machine } = this.#parts;
    const outcome = await host.call(row, "create");
    const mayRest = row.spec.registeredOn !== null;
    if (outcome.ok && (outcome.value.state === "running" || (mayRest && outcome.value.state === "stopped"))) {
      if (row.spec.files.length > 0) store.change({ spec: { ...row.spec, files: [] } });
      return success(await machine.settle(row, outcome.value));
    }
    await this.#undo();
    return outcome.ok ? failure("vm-start-failed", `The machine did not start: it is ${outcome.value.state}.`) : outcome;
  }

  /** A VM that did not come to be is deleted for everybody at once; its machine and place follow, by alarm if need be. */
  async #undo(): Promise<void> {
    const { machine, upkeep } = this.#parts;
    const row = upkeep.narrow({ state: "deleted", intent: "delete" });
    await Promise.all([machine.finishDelete(row), upkeep.deliver()]);
  }
}
