import type { Verdict } from "../../durable-objects/contract.ts";
import { failure, type Result } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { logEvent } from "../log.ts";
import { type Authority, locate } from "../services/authorise.ts";
import { edgeTicket } from "../services/tickets.ts";
import { fetchHost, type HostCall } from "./fetch-host.ts";

const NOT_ACCEPTED = failure("host-unavailable", "The machine that runs this VM is not up to date. Try again in a moment.");

/**
 * Carries an authorised call to the VM's host. When the host knows that the verdict is out of date, it is read again:
 * either the caller is refused now, or one more try is made with a new ticket. A host that refuses our ticket for
 * another reason is at odds with the edge, not with the caller: that is `host-unavailable`, never a 401.
 */
export async function forward(edge: Edge, authority: Authority, call: HostCall): Promise<Result<Response>> {
  const first = await send(edge, authority.verdict, call);
  if (first.ok || !isStale(first.failure.kind)) return asCallerSees(edge, first);
  const verdict = await authority.reread();
  if (!verdict.ok) return verdict;
  return asCallerSees(edge, await send(edge, verdict.value, call));
}

async function send(edge: Edge, verdict: Verdict, call: HostCall): Promise<Result<Response>> {
  const placement = await locate(edge, verdict);
  if (!placement.ok) return placement;
  const ticket = await edgeTicket(edge, verdict, placement.value);
  return ticket.ok ? fetchHost(edge, placement.value.hostUrl, ticket.value, call) : ticket;
}

function isStale(kind: string): boolean {
  return kind === "stale-epoch" || kind === "stale-authority";
}

function asCallerSees(edge: Edge, result: Result<Response>): Result<Response> {
  if (result.ok) return result;
  const { kind } = result.failure;
  if (!isStale(kind) && kind !== "ticket-refused") return result;
  logEvent("host-refused-ticket", { traceId: edge.traceId, kind });
  return NOT_ACCEPTED;
}
