import type { MiddlewareHandler } from "hono";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { LINK_PARAMETER } from "../../protocol/http-link.ts";
import { parseVmName } from "../../protocol/vm-names.ts";
import type { Edge, EdgeHono } from "../edge.ts";
import { forwardBy } from "../hosts/forward.ts";
import { failureAnswer } from "../http/answers.ts";
import { refuseHead } from "../http/head-limit.ts";
import { urlParts } from "../http/url-parts.ts";
import { limitFailures } from "../limits/rate-limits.ts";
import { VM_NOT_FOUND } from "../masks.ts";
import { accessCookie } from "./cookie.ts";
import { fetchGuest, visitorsAnswer } from "./fetch-guest.ts";
import { cameOverTls, type Visit } from "./visit.ts";
import { admitVisitor, byLink } from "./visitor.ts";

const METHOD_REFUSED = failure("method-not-allowed", "A VM's name takes every method but CONNECT and TRACE.");

/**
 * Serves HTTP to VMs by their names, `<vm-id>[-<port>].<VM_DOMAIN>`: the `Host` header decides. Everything else goes on to the
 * API. A visitor is authorised before anything is woken.
 */
export const serveVmNames: MiddlewareHandler<EdgeHono> = async (c, next) => {
  const edge = c.get("edge");
  const request = c.req.raw;
  const name = parseVmName(urlParts(request.url).hostname.toLowerCase(), edge.env.VM_DOMAIN?.toLowerCase() ?? "");
  if (name === null) return next();
  const url = new URL(request.url);
  const refused = refuseHead(c);
  if (refused !== null) return refused;
  if (name.kind === "nobody") return failureAnswer(VM_NOT_FOUND.failure, "v5", edge.settings);
  const { vmId, port: namedPort } = name;
  const visit: Visit = { request, url, vmId, namedPort, isSecure: cameOverTls(url, request.headers) };
  const answer = await limitFailures(edge, edge.clientAddress, await answerVisit(edge, visit));
  if (!answer.ok) return failureAnswer(answer.failure, "v5", edge.settings);
  c.set("isGuestAnswer", true);
  return answer.value;
};

async function answerVisit(edge: Edge, visit: Visit): Promise<Result<Response>> {
  const { request, url } = visit;
  if (request.method === "CONNECT" || request.method === "TRACE") return METHOD_REFUSED;
  const link = request.method === "GET" ? url.searchParams.get(LINK_PARAMETER) : null;
  if (link !== null) return enterByLink(edge, visit, link);
  const authority = await admitVisitor(edge, visit);
  if (!authority.ok) return authority;
  const answer = await forwardBy(edge, authority.value, {
    isOnce: request.body !== null,
    isPlainPost: request.method === "POST",
    // The place says which ports are open, and to what they lead.
    readsPlace: true,
    go: (placement, ticket) => fetchGuest(edge, placement, ticket, visit),
  });
  return answer.ok ? success(visitorsAnswer(answer.value)) : answer;
}

/** Changes a signed link for a cookie, and leads on to the same place without the link. */
async function enterByLink(edge: Edge, visit: Visit, text: string): Promise<Result<Response>> {
  const authority = await byLink(edge, visit, text);
  if (!authority.ok) return authority;
  const clean = new URL(visit.url);
  clean.searchParams.delete(LINK_PARAMETER);
  // "//host/…" would lead to another host (RFC 3986 section 4.2).
  const path = clean.pathname.startsWith("//") ? `/.${clean.pathname}` : clean.pathname;
  return success(
    new Response(null, {
      status: 303,
      headers: {
        location: path + clean.search,
        "set-cookie": accessCookie(text, authority.value.link.exp, visit.isSecure),
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
      },
    }),
  );
}
