import type { Placement } from "../../durable-objects/vm-contract.ts";
import { type Result, success } from "../../protocol/failures.ts";
import { GUEST_ANSWER_HEADER } from "../../protocol/headers.ts";
import { hopByHop } from "../../protocol/hop-by-hop.ts";
import type { Edge } from "../edge.ts";
import { HOST_UNAVAILABLE, readFailure } from "../hosts/fetch-host.ts";
import { logEvent } from "../log.ts";
import { guestHeaders } from "./guest-request.ts";
import { guestPort, type Visit } from "./visit.ts";

/**
 * Sends a visit to the VM's host with its ticket and answers what the guest said, bodies streaming both ways. What the host says
 * itself is a failure.
 */
export async function fetchGuest(edge: Edge, placement: Placement, ticket: string, visit: Visit): Promise<Result<Response>> {
  const { request, url, vmId } = visit;
  const { hostUrl, ports } = placement;
  const headers = guestHeaders(edge, visit);
  headers.set("authorization", `Bearer ${ticket}`);
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), edge.settings.GUEST_ANSWER_TIMEOUT_MS);
  try {
    const path = `/vms/${vmId}/http/${guestPort(visit, ports).port}${url.pathname}${url.search}`;
    const response = await fetch(hostUrl.replace(/\/+$/, "") + path, {
      method: request.method,
      headers,
      body: request.body,
      redirect: "manual",
      signal: patience.signal,
    });
    const isGuests = response.webSocket !== null || response.headers.has(GUEST_ANSWER_HEADER);
    return isGuests ? success(response) : { ok: false, failure: await readFailure(edge, response) };
  } catch (error) {
    logEvent("host-unavailable", { traceId: edge.traceId, hostUrl, reason: error instanceof Error ? error.name : "unknown" });
    return HOST_UNAVAILABLE;
  } finally {
    clearTimeout(timer);
  }
}

/** The guest's answer as the visitor gets it. */
export function visitorsAnswer(response: Response): Response {
  const { status, statusText, webSocket } = response;
  if (webSocket !== null) {
    const protocol = response.headers.get("sec-websocket-protocol");
    return new Response(null, { status: 101, webSocket, headers: protocol === null ? {} : { "sec-websocket-protocol": protocol } });
  }
  const endsHere = hopByHop(response.headers.get("connection"));
  const headers = new Headers(response.headers);
  for (const name of response.headers.keys()) if (endsHere(name) || name.startsWith("postern-")) headers.delete(name);
  return new Response(response.body, { status, statusText, headers });
}
