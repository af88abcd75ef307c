import type { Result } from "../../protocol/failures.ts";
import type { TicketClaims } from "../../protocol/ticket.ts";
import { TICKET_REFUSED } from "../auth/client-ticket.ts";
import type { Edge } from "../edge.ts";
import type { Authority } from "../services/authorise.ts";
import { fetchHost, type HostCall } from "./fetch-host.ts";
import { forward } from "./forward.ts";

/** Somebody who may make calls of one operation to one VM's host, however that was decided. */
export interface HostCaller {
  readonly vmId: string;
  call(call: HostCall): Promise<Result<Response>>;
}

/** A caller that was authorised now: the edge mints the tickets. */
export function authorisedCaller(edge: Edge, authority: Authority): HostCaller {
  return { vmId: authority.verdict.vmId, call: (call) => forward(edge, authority, call) };
}

/** The holder of a client's ticket, good for one call: the host uses it up, and only it can say that it is stale or used. */
export function ticketHolder(edge: Edge, ticket: string, claims: TicketClaims): HostCaller {
  return {
    vmId: claims.vm,
    call: async (call) => {
      const answer = await fetchHost(edge, claims.host_url, ticket, call);
      // Only whoever asked for this ticket can ask for another.
      return !answer.ok && answer.failure.details?.voidedKey === true ? TICKET_REFUSED : answer;
    },
  };
}
