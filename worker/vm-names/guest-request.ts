import { GUEST_AUTHORIZATION_HEADER, TRACE_HEADER } from "../../protocol/headers.ts";
import { hopByHop } from "../../protocol/hop-by-hop.ts";
import { IDENTITY_TOKEN_HEADER } from "../auth/presented.ts";
import type { Edge } from "../edge.ts";
import { guestCookies } from "./cookie.ts";
import type { Visit } from "./visit.ts";
import { shownCredential } from "./visitor.ts";

/**
 * What a visitor may not tell a guest: our credential, what proxies say about the visitor, and what the runtime says anew about
 * each WebSocket of its own.
 */
const NOT_FOR_GUESTS: ReadonlySet<string> = new Set([
  "host",
  "authorization",
  "cookie",
  "content-length",
  "forwarded",
  "x-real-ip",
  "true-client-ip",
  "sec-websocket-key",
  "sec-websocket-version",
  "sec-websocket-extensions",
  IDENTITY_TOKEN_HEADER,
]);
const NOT_FOR_GUESTS_FAMILY = /^(?:x-forwarded-|cf-|postern-)/;

export function isUpgrade({ headers }: Request): boolean {
  return headers.get("upgrade")?.toLowerCase() === "websocket";
}

/**
 * The headers with which a visit goes to the VM's host, the ticket excepted. None of our credentials is among them, whoever sent
 * them and wherever.
 */
export function guestHeaders(edge: Edge, { request, url, isSecure }: Visit): Headers {
  const endsHere = hopByHop(request.headers.get("connection"));
  const headers = new Headers();
  for (const [name, value] of request.headers) {
    if (!endsHere(name) && !NOT_FOR_GUESTS.has(name) && !NOT_FOR_GUESTS_FAMILY.test(name)) headers.append(name, value);
  }
  const authorization = request.headers.get("authorization");
  if (authorization !== null && !isOurs(authorization)) headers.set(GUEST_AUTHORIZATION_HEADER, authorization);
  const cookies = guestCookies(request.headers.get("cookie"));
  if (cookies !== null) headers.set("cookie", cookies);
  if (isUpgrade(request)) headers.set("upgrade", "websocket");
  if (edge.clientAddress !== null) headers.set("x-forwarded-for", edge.clientAddress);
  headers.set("x-forwarded-proto", isSecure ? "https" : "http");
  headers.set("x-forwarded-host", url.host);
  headers.set(TRACE_HEADER, edge.traceId);
  return headers;
}

/** Looked at apart from the token header, beside which a bearer of ours may stand as well. */
function isOurs(authorization: string): boolean {
  return shownCredential(new Headers({ authorization })) !== null;
}
