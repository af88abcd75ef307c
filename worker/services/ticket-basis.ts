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

/** Settings of the same names. */
interface LifeLimits {
  readonly VERDICT_MAX_AGE_MS: number;
  readonly TICKET_REUSE_MARGIN_MS: number;
}

/**
 * How long a ticket of the edge's own may live, in seconds: as long as what it hangs on may be used, and the margin in which no ticket
 * is used. So no ticket is old in its own right, which bounds how long one counts where floors do not arrive. `readAt` and `now`:
 * milliseconds since 1970 UTC.
 */
export function edgeTicketLifeS(readAt: number, now: number, limits: LifeLimits): number {
  const untilMs = readAt + limits.VERDICT_MAX_AGE_MS + limits.TICKET_REUSE_MARGIN_MS;
  return Math.max(Math.floor((untilMs - now) / 1000), 1);
}

/** What a ticket says because of what it hangs on. */
export function optionsOf(basis: TicketBasis): Pick<TicketOptions, "hostId" | "hostUrl" | "accountEpoch" | "vmEpoch" | "readAt"> {
  const { placement, tenancy } = basis;
  const { hostId, hostUrl, epoch } = placement;
  return { hostId, hostUrl, accountEpoch: tenancy.epoch, vmEpoch: epoch, readAt: readAtOf(basis) };
}
