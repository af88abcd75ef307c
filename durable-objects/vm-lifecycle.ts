import { type Failure, failure } from "../protocol/failures.ts";
import type { MachineState } from "../protocol/host-api.ts";
import { VM_NOT_FOUND_MESSAGE } from "../protocol/messages.ts";
import type { VmState } from "./vm-contract.ts";

/** What an owner may ask of a VM that exists. */
export type Command = "start" | "stop" | "suspend" | "delete";

/**
 * What a VM's object has begun and not yet seen the end of; kept in its row, so that a crash cannot forget it.
 * `check`: the host was asked for something and did not answer, so it must be asked what came of it.
 */
export type Intent = Command | "create" | "check";

/** What to do about a command: ask the host, answer with the record as it is, or refuse. */
export type Step =
  | { readonly kind: "call" }
  | { readonly kind: "settled" }
  | { readonly kind: "refuse"; readonly failure: Failure };

const CALL: Step = { kind: "call" };
const SETTLED: Step = { kind: "settled" };

/**
 * What a command means to a VM in a known state. Start, stop and delete ask the host whatever is known here, since the
 * host may have put the VM to sleep a moment ago; there they change nothing that is already so.
 */
export function stepFor(state: VmState, command: Command): Step {
  if (state === "deleted") return refuse("vm-not-found", VM_NOT_FOUND_MESSAGE);
  if (command === "delete") return CALL;
  if (state === "lost") {
    return refuse("vm-not-running", "This VM's machine is missing on its host. It can only be deleted.");
  }
  if (command === "suspend") {
    if (state === "suspended") return SETTLED;
    if (state === "stopped") return refuse("vm-not-running", "This VM is stopped; only a running VM can be suspended.");
  }
  return CALL;
}

/** Whether a VM in this state does not run; what waits for its end is over, and the time to its deletion counts. */
export function isResting(state: VmState): boolean {
  return state === "stopped" || state === "suspended" || state === "lost" || state === "deleted";
}

/** The state to show while an intent is under way; `known` is the last that the host told. */
export function shownState(known: VmState, intent: Intent | null): VmState {
  if (known === "deleted" || known === "lost") return known;
  if (intent === "create") return "starting";
  if (intent === "start" && known !== "running") return "starting";
  if (intent === "suspend" && known === "running") return "suspending";
  return known;
}

/**
 * The state after the host told the machine's. A deleted VM stays deleted whatever is told; a machine that is missing is
 * lost, unless it is being created (it is not there yet) or deleted (it is not there any more).
 */
export function stateAfter(known: VmState, machine: MachineState, intent: Intent | null): VmState {
  if (known === "deleted") return "deleted";
  if (machine !== "missing") return machine;
  return intent === "create" || intent === "delete" ? known : "lost";
}

function refuse(kind: Failure["kind"], message: string): Step {
  return { kind: "refuse", failure: failure(kind, message).failure };
}
