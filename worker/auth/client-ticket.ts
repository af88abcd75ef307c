import { decodeJwt } from "jose";
import { failure, type Result, success } from "../../protocol/failures.ts";
import type { Operation } from "../../protocol/operations.ts";
import { checkTicket, hostAudience, type TicketClaims } from "../../protocol/ticket.ts";
import type { Edge } from "../edge.ts";
import { logEvent } from "../log.ts";
import { publicTicketKeys } from "../tickets/public-keys.ts";

/** Subprotocol that carries a ticket, since browsers send no other header of the page's choosing (RFC 6455 section 1.9). */
const TICKET_PROTOCOL = "postern-ticket.";

/** What is told to whoever shows a ticket that does not hold. */
export const TICKET_REFUSED = failure(
  "ticket-refused",
  "The ticket was refused: it is malformed, expired, or for something else. Ask for a new one.",
);

/** The ticket that a WebSocket's client shows, as `?ticket=` or as a subprotocol; null when it shows none. */
export function shownTicket(request: Request): string | null {
  const inQuery = new URL(request.url).searchParams.get("ticket");
  if (inQuery !== null) return inQuery;
  const protocol = offeredProtocols(request).find((name) => name.startsWith(TICKET_PROTOCOL));
  return protocol === undefined ? null : protocol.slice(TICKET_PROTOCOL.length);
}

/**
 * The subprotocol to answer with, since browsers take no connection that answers none of those they offered: the first
 * that is no ticket, or else the ticket's own. Null when none was offered.
 */
export function chosenProtocol(request: Request): string | null {
  const offered = offeredProtocols(request);
  return offered.find((name) => !name.startsWith(TICKET_PROTOCOL)) ?? offered[0] ?? null;
}

/**
 * Verifies everything about a client's ticket that needs no memory: that it is ours, alive, and for this. Whether it was
 * used already or is stale its host knows, which is named in it.
 */
export async function verifyClientTicket(
  edge: Edge,
  ticket: string,
  wanted: { readonly vmId: string; readonly operation: Operation; readonly linuxUser: string | null },
): Promise<Result<TicketClaims>> {
  const audience = hostAudienceOf(ticket);
  const getKey = await publicTicketKeys(edge);
  if (!getKey.ok) return getKey;
  const checked = await checkTicket(ticket, { getKey: getKey.value, issuer: edge.env.ISSUER, audience, now: edge.clock() });
  if (!checked.ok) return refuse(edge, checked.reason);
  const { claims } = checked;
  const { vmId, operation, linuxUser } = wanted;
  if (claims.azp !== "client") return refuse(edge, "other-holder");
  if (claims.vm !== vmId || claims.op !== operation) return refuse(edge, "other-operation");
  if (linuxUser !== null && linuxUser !== claims.user) return refuse(edge, "user");
  return success(claims);
}

/** The host that a ticket names, unverified: it becomes part of what is verified. */
function hostAudienceOf(ticket: string): string {
  const nobody = hostAudience("");
  try {
    const { aud } = decodeJwt(ticket);
    return [aud ?? []].flat().find((name) => name.startsWith(nobody)) ?? nobody;
  } catch {
    return nobody;
  }
}

function offeredProtocols(request: Request): string[] {
  const header = request.headers.get("sec-websocket-protocol") ?? "";
  return header
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
}

function refuse(edge: Edge, reason: string): Result<never> {
  logEvent("client-ticket-refused", { traceId: edge.traceId, reason });
  return TICKET_REFUSED;
}
