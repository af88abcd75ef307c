import type { Verdict } from "../../durable-objects/contract.ts";
import type { Placement, Tenancy } from "../../durable-objects/vm-contract.ts";
import type { TicketOptions } from "../tickets/claims.ts";

/** Everything that a ticket hangs on. */
export interface TicketBasis {
  readonly verdict: Verdict;
  readonly placement: Placement;
  readonly tenancy: Tenancy;
}

/** When the oldest part was read, in milliseconds since 1970 UTC. */
export function readAtOf({ verdict, placement, tenancy }: TicketBasis): number {
  return Math.min(verdict.readAt, placement.readAt, tenancy.readAt);
}

/** What a ticket says because of what it hangs on. */
export function optionsOf(basis: TicketBasis): Pick<TicketOptions, "hostId" | "hostUrl" | "accountEpoch" | "vmEpoch" | "readAt"> {
  const { placement, tenancy } = basis;
  const { hostId, hostUrl, epoch } = placement;
  return { hostId, hostUrl, accountEpoch: tenancy.epoch, vmEpoch: epoch, readAt: readAtOf(basis) };
}
