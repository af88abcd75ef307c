import type { Verdict } from "../../durable-objects/contract.ts";
import type { Placement } from "../../durable-objects/vm-contract.ts";
import { type FailureKind, failure, type Result, success } from "../../protocol/failures.ts";
import { ACTED_AS_HEADER } from "../../protocol/headers.ts";
import { IMAGE_USER } from "../../protocol/linux-user.ts";
import type { Edge } from "../edge.ts";
import { logEvent } from "../log.ts";
import { type Authority, locate, ofAccount } from "../services/authorise.ts";
import { edgeTicket, forgetTicket } from "../services/edge-tickets.ts";
import { placementOf, tenancyOf } from "../services/known.ts";
import { readAtOf, type TicketBasis } from "../services/ticket-basis.ts";
import { unlessDown } from "./down-watch.ts";
import { fetchHost, type HostCall, isStreamed } from "./fetch-host.ts";

const NOT_ACCEPTED = failure("host-unavailable", "The machine that runs this VM is not up to date. Try again in a moment.");

/** What a host says that may be so because the edge knew something out of date. */
const MISPLACED: ReadonlySet<FailureKind> = new Set(["ticket-refused", "vm-not-found", "host-unavailable"]);

/** One way to carry a call to a host with a ticket. */
export interface Journey {
  /** The call cannot be made twice: its body streams. */
  readonly isOnce: boolean;
  /** What the call asks for must not be done twice. */
  readonly isPlainPost: boolean;
  /** The place must be read for this call: it goes by more of it than where the VM is. */
  readonly readsPlace: boolean;
  go(placement: Placement, ticket: string): Promise<Result<Response>>;
}

/** An attempt's answer, and what it went by. */
interface Attempt {
  readonly basis: TicketBasis;
  readonly result: Result<Response>;
  readonly isReused: boolean;
}

/**
 * Carries an authorised call to the VM's host, by what the edge knows. When the host knows that it is out of date, it is read
 * again: either the caller is refused now, or one more try is made with a new ticket. A host that refuses our ticket for
 * another reason is at odds with the edge, not with the caller: that is `host-unavailable`, never a 401. A call whose body
 * streams cannot be made twice: it goes by what was read just now, and if even that is stale the caller tries again.
 */
export function forward(edge: Edge, authority: Authority, call: HostCall): Promise<Result<Response>> {
  return forwardBy(edge, authority, {
    isOnce: isStreamed(call.body?.content),
    isPlainPost: call.method === "POST",
    readsPlace: false,
    go: ({ hostUrl }, ticket) => fetchHost(edge, hostUrl, ticket, call),
  });
}

/** The same for calls that go another way. */
export async function forwardBy(edge: Edge, authority: Authority, journey: Journey): Promise<Result<Response>> {
  const { isOnce, readsPlace } = journey;
  const known = await knownBasis(edge, authority, readsPlace);
  const isTooOld = known.ok && isOnce && edge.clock() - readAtOf(known.value) > edge.settings.STREAM_VERDICT_MAX_AGE_MS;
  const basis = isTooOld ? await rereadBasis(edge, authority, readsPlace, known.value) : known;
  if (!basis.ok) return basis;
  const first = await send(edge, basis.value, journey);
  if (first.result.ok) return told(authority, first.result);
  const { kind } = first.result.failure;
  const again = isStale(kind) ? await afterStale(edge, authority, first, journey) : await afterMisplaced(edge, first, journey);
  return asCallerSees(edge, told(authority, again));
}

/** Passes on whom the guest meant, where that was left to it: then the host says it. */
function told({ actedAs, verdict }: Authority, answer: Result<Response>): Result<Response> {
  if (actedAs === undefined || verdict.linuxUser !== IMAGE_USER || !answer.ok) return answer;
  const linuxUser = answer.value.headers.get(ACTED_AS_HEADER);
  if (linuxUser !== null) actedAs(linuxUser);
  return answer;
}

/** Reads everything again; whoever may no longer is refused now. */
async function afterStale(edge: Edge, authority: Authority, first: Attempt, journey: Journey): Promise<Result<Response>> {
  const basis = await rereadBasis(edge, authority, journey.readsPlace, first.basis);
  if (!basis.ok) return basis;
  forgetTicket(first.basis);
  return journey.isOnce ? first.result : (await send(edge, basis.value, journey)).result;
}

/** Looks where the VM is now, when its host does not know it, does not take our ticket, or does not answer. */
async function afterMisplaced(edge: Edge, first: Attempt, journey: Journey): Promise<Result<Response>> {
  const { basis, result, isReused } = first;
  if (result.ok || !MISPLACED.has(result.failure.kind)) return result;
  const { kind } = result.failure;
  const placement = ofAccount(basis.verdict, await placementOf(edge, basis.verdict.vmId, basis.placement));
  if (!placement.ok) return placement.failure.kind === "authority-unavailable" ? result : placement;
  const { hostId, hostUrl } = basis.placement;
  const hasMoved = placement.value.hostId !== hostId || placement.value.hostUrl !== hostUrl;
  const isTicketWorn = kind === "ticket-refused" && isReused;
  if ((!hasMoved && !isTicketWorn) || !mayRepeat(kind, journey)) return result;
  if (isTicketWorn) forgetTicket(basis);
  return (await send(edge, { ...basis, placement: placement.value }, journey)).result;
}

/** A host that refused has done nothing; one that fell silent may have, and a command must not run twice. */
function mayRepeat(kind: FailureKind, { isOnce, isPlainPost }: Journey): boolean {
  return !isOnce && (kind !== "host-unavailable" || !isPlainPost);
}

/**
 * By what the edge knows. A verdict may be kept from before the VM left the account, came back and was granted anew: one whose
 * grant does not hold is read again before anybody is refused.
 */
async function knownBasis(edge: Edge, authority: Authority, readsPlace: boolean): Promise<Result<TicketBasis>> {
  const known = await basisOf(edge, authority.verdict, readsPlace, null);
  if (known.ok || known.failure.kind !== "vm-not-found" || authority.verdict.grant === null) return known;
  const verdict = await authority.reread();
  return verdict.ok ? basisOf(edge, verdict.value, readsPlace, null) : verdict;
}

/** What a ticket for this verdict hangs on. `refused`: what a verifier refused; then the objects are asked. */
async function basisOf(
  edge: Edge,
  verdict: Verdict,
  readsPlace: boolean,
  refused: TicketBasis | null,
): Promise<Result<TicketBasis>> {
  const place = readsPlace ? locate(edge, verdict) : placementOf(edge, verdict.vmId, refused?.placement ?? null);
  const account = tenancyOf(edge, verdict.accountId, refused?.tenancy ?? null);
  const isKnown = !(place instanceof Promise || account instanceof Promise);
  const [placement, tenancy] = isKnown ? [place, account] : await Promise.all([place, account]);
  if (!tenancy.ok) return tenancy;
  const fit = ofAccount(verdict, placement);
  // A kept place may still name the account that had the VM before: then its object is asked.
  const own = fit.ok || !placement.ok ? fit : ofAccount(verdict, await placementOf(edge, verdict.vmId, placement.value));
  return own.ok ? success({ verdict, placement: own.value, tenancy: tenancy.value }) : own;
}

async function rereadBasis(
  edge: Edge,
  authority: Authority,
  readsPlace: boolean,
  refused: TicketBasis,
): Promise<Result<TicketBasis>> {
  const verdict = await authority.reread();
  return verdict.ok ? basisOf(edge, verdict.value, readsPlace, refused) : verdict;
}

async function send(edge: Edge, basis: TicketBasis, journey: Journey): Promise<Attempt> {
  const ticket = await edgeTicket(edge, basis);
  if (!ticket.ok) return { basis, result: ticket, isReused: false };
  const startedAt = edge.timing.now();
  edge.timing.forwarded();
  const result = await unlessDown(edge, basis.verdict, journey.go(basis.placement, ticket.value.text));
  edge.timing.add("host", startedAt);
  return { basis, result, isReused: ticket.value.isReused };
}

function isStale(kind: FailureKind): boolean {
  return kind === "stale-epoch" || kind === "stale-authority";
}

function asCallerSees(edge: Edge, result: Result<Response>): Result<Response> {
  if (result.ok) return result;
  const { kind } = result.failure;
  if (!isStale(kind) && kind !== "ticket-refused") return result;
  logEvent("host-refused-ticket", { traceId: edge.traceId, kind });
  return NOT_ACCEPTED;
}
