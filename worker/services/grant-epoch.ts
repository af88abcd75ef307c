import type { Verdict } from "../../durable-objects/contract.ts";
import type { Placement } from "../../durable-objects/vm-contract.ts";

/** Whether a verdict's grant, if it hangs on one, still holds at this epoch of the VM. */
export function holdsAt({ grantedVmEpoch }: Pick<Verdict, "grantedVmEpoch">, vmEpoch: number): boolean {
  return grantedVmEpoch === undefined || grantedVmEpoch === vmEpoch;
}

/** Whether a place is of the verdict's account, and has been all the time since that granted the VM. */
export function isPlaceFor(verdict: Verdict, { accountId, epoch }: Pick<Placement, "accountId" | "epoch">): boolean {
  return accountId === verdict.accountId && holdsAt(verdict, epoch);
}
