import { failure, type Result, success } from "../protocol/failures.ts";
import type { MachineResources } from "../protocol/host-api.ts";
import { VM_NOT_FOUND_MESSAGE } from "../protocol/messages.ts";
import { isUnsettled } from "./host-client.ts";
import type { Settings } from "./settings.ts";
import type { VmChange, VmRecord } from "./vm-contract.ts";
import type { VmCreation } from "./vm-creation.ts";
import { type Command, stepFor } from "./vm-lifecycle.ts";
import type { VmMachine } from "./vm-machine.ts";
import { changedTraits, differsInIdleness, MAX_METADATA_ENTRIES, refuseSizes } from "./vm-spec.ts";
import { record, type VmStore } from "./vm-store.ts";
import type { VmUpkeep } from "./vm-upkeep.ts";

export const UNANSWERED = "The VM's host has not answered an earlier request yet. Try again shortly.";

export interface VmCommandsParts {
  readonly store: VmStore;
  readonly machine: VmMachine;
  readonly creation: VmCreation;
  readonly upkeep: VmUpkeep;
  readonly settings: Settings;
}

/** What is done to a VM that exists. One at a time: the caller queues them. */
export class VmCommands {
  readonly #parts: VmCommandsParts;

  constructor(parts: VmCommandsParts) {
    this.#parts = parts;
  }

  async perform(command: Command): Promise<Result<VmRecord>> {
    const { store, machine, upkeep, settings } = this.#parts;
    // Nothing is begun on a host that is down; a deletion is, since it need not be waited for.
    const host = command === "delete" ? null : await machine.located(store.must());
    if (host?.ok === false) return host;
    const left = store.must().intent;
    // A crash or a silent host may have left something half-way; it comes first.
    if (left !== null) await this.recover();
    const before = store.must();
    if (left === "delete" && command === "delete" && before.state === "deleted") return success(record(before));
    if (before.intent !== null && command !== "delete") {
      return failure("host-unavailable", UNANSWERED);
    }
    const step = stepFor(before.state, command);
    if (step.kind === "refuse") return { ok: false, failure: step.failure };
    if (step.kind === "settled") {
      // A crash may have kept the account from hearing of it: the list must not say otherwise than this answer.
      await upkeep.note();
      return success(record(before));
    }
    if (command === "delete") return this.#delete();
    const row = store.change({ intent: command, attempts: 0 });
    upkeep.lookAgainIn(settings.VM_RECOVERY_MS);
    const outcome = await machine.ask(row, (vmHost, located) => vmHost.call(located, command));
    if (outcome.ok) return success(await machine.settle(row, outcome.value));
    // The host refused, or nobody knows: either way ask it how the machine is before anything is said about it.
    store.change({ intent: "check" });
    if (!isUnsettled(outcome)) await machine.check();
    upkeep.rearm();
    await upkeep.note();
    return outcome;
  }

  /** The host is told first: traits that it does not follow must not be shown. */
  async update(change: VmChange): Promise<Result<VmRecord>> {
    const { store, machine, upkeep } = this.#parts;
    const before = store.must();
    if (before.state === "deleted") return failure("vm-not-found", VM_NOT_FOUND_MESSAGE);
    const traits = changedTraits(before.traits, change);
    if (Object.keys(traits.metadata).length > MAX_METADATA_ENTRIES) {
      return failure("bad-request", `metadata: a VM has at most ${MAX_METADATA_ENTRIES} entries.`);
    }
    if (differsInIdleness(before.traits, traits)) {
      const told = await machine.ask(before, (host, located) => host.call({ ...located, traits }, "update"));
      if (!told.ok) return told;
    }
    store.change({ traits });
    upkeep.rearm();
    await upkeep.note();
    upkeep.rearm();
    return success(record(store.must()));
  }

  async resize(wish: MachineResources, growOnly: boolean): Promise<Result<VmRecord>> {
    const { store, machine } = this.#parts;
    const row = store.must();
    if (row.state === "deleted") return failure("vm-not-found", VM_NOT_FOUND_MESSAGE);
    const refused = refuseSizes(row.resources, wish, growOnly);
    if (refused !== null) return refused;
    const outcome = await machine.ask(row, (host, located) => host.resize(located, wish));
    return outcome.ok ? success(await machine.settle(row, outcome.value)) : outcome;
  }

  /** Finds out what became of an intent that was not seen to its end, and finishes or undoes it. */
  async recover(): Promise<void> {
    const { store, machine, creation, upkeep } = this.#parts;
    const row = store.must();
    const tried = store.change({ attempts: row.attempts + 1 });
    if (tried.intent === "delete") await machine.finishDelete(tried);
    else if (tried.intent === "create") await creation.recover(tried);
    else if (tried.intent !== null) await machine.check();
    upkeep.rearm();
  }

  async #delete(): Promise<Result<VmRecord>> {
    const { store, machine, upkeep } = this.#parts;
    const condemned = upkeep.narrow({ intent: "delete", attempts: 0 });
    const [deleted] = await Promise.all([machine.finishDelete(condemned), upkeep.deliver()]);
    upkeep.rearm();
    return deleted.ok ? success(record(store.must())) : deleted;
  }
}
