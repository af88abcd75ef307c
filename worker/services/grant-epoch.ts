import type { Verdict } from "../../durable-objects/contract.ts";
import { epochOf } from "../../durable-objects/grant-epoch.ts";
import type { Placement, VmEpochs } from "../../durable-objects/vm-contract.ts";

/** Whether a verdict's grant, if it hangs on one, still holds at these epochs of the VM. */
export function holdsAt({ grant }: Pick<Verdict, "grant">, vm: VmEpochs): boolean {
  return grant === null || epochOf(grant, vm) === vm.epoch;
}

/** Whether a place is of the verdict's account, and has been all the time since that granted the VM. */
export function isPlaceFor(verdict: Verdict, place: VmEpochs & Pick<Placement, "accountId">): boolean {
  return place.accountId === verdict.accountId && holdsAt(verdict, place);
}
