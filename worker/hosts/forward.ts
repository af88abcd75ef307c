import type { Placement, Verdict } from "../../durable-objects/contract.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { ACTED_AS_HEADER } from "../../protocol/headers.ts";
import type { Edge } from "../edge.ts";
import { logEvent } from "../log.ts";
import { type Authority, locate } from "../services/authorise.ts";
import { edgeTicket } from "../services/tickets.ts";
import { fetchHost, type HostCall, isStreamed } from "./fetch-host.ts";

const NOT_ACCEPTED = failure("host-unavailable", "The machine that runs this VM is not up to date. Try again in a moment.");

/**
 * Carries an authorised call to the VM's host. When the host knows that the verdict is out of date, it is read again:
 * either the caller is refused now, or one more try is made with a new ticket. A host that refuses our ticket for
 * another reason is at odds with the edge, not with the caller: that is `host-unavailable`, never a 401. A call whose body
 * streams cannot be made twice: it goes with a verdict that was read just now, and if even that is stale the caller tries again.
 */
export async function forward(edge: Edge, authority: Authority, call: HostCall): Promise<Result<Response>> {
  const isOnce = isStreamed(call.body?.content);
  return forwardBy(edge, authority, isOnce, ({ hostUrl }, ticket) => fetchHost(edge, hostUrl, ticket, call));
}

/** One try to carry a call to a host with a ticket. */
type Attempt = (placement: Placement, ticket: string) => Promise<Result<Response>>;

/** The same for calls that go another way. `isOnce`: the call cannot be made twice. */
export async function forwardBy(edge: Edge, authority: Authority, isOnce: boolean, attempt: Attempt): Promise<Result<Response>> {
  const known = isOnce ? await freshVerdict(edge, authority) : success(authority.verdict);
  if (!known.ok) return known;
  const first = await send(edge, known.value, attempt);
  if (first.ok || !isStale(first.failure.kind)) return asCallerSees(edge, told(authority, first));
  const verdict = await authority.reread();
  if (!verdict.ok) return verdict;
  return asCallerSees(edge, isOnce ? first : told(authority, await send(edge, verdict.value, attempt)));
}

/** Passes on whom the guest meant, where the host says it. */
function told({ actedAs }: Authority, answer: Result<Response>): Result<Response> {
  const linuxUser = answer.ok ? answer.value.headers.get(ACTED_AS_HEADER) : null;
  if (linuxUser !== null) actedAs?.(linuxUser);
  return answer;
}

async function freshVerdict(edge: Edge, { verdict, reread }: Authority): Promise<Result<Verdict>> {
  const age = edge.clock() - verdict.readAt;
  return age <= edge.settings.STREAM_VERDICT_MAX_AGE_MS ? success(verdict) : reread();
}

async function send(edge: Edge, verdict: Verdict, attempt: Attempt): Promise<Result<Response>> {
  const placement = await locate(edge, verdict);
  if (!placement.ok) return placement;
  const ticket = await edgeTicket(edge, verdict, placement.value);
  return ticket.ok ? attempt(placement.value, ticket.value) : ticket;
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
