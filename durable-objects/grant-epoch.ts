import type { GrantHold } from "./contract.ts";
import type { VmEpochs } from "./vm-contract.ts";

/** The VM's epoch when it was granted. */
export function epochOf({ vmEpoch }: GrantHold, { unnotedEpoch }: Pick<VmEpochs, "unnotedEpoch">): number {
  return vmEpoch ?? unnotedEpoch;
}
