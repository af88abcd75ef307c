import { failure, type Result, success } from "../../protocol/failures.ts";
import { LINK_PARAMETER } from "../../protocol/http-link.ts";
import { parseVmName, type VmName } from "../../protocol/vm-names.ts";
import type { Edge } from "../edge.ts";
import { forwardBy } from "../hosts/forward.ts";
import { failureAnswer } from "../http/answers.ts";
import { answerError } from "../http/fallbacks.ts";
import { refuseHead } from "../http/head-limit.ts";
import { limitFailures } from "../limits/rate-limits.ts";
import { VM_NOT_FOUND } from "../masks.ts";
import { accessCookie } from "./cookie.ts";
import { fetchGuest, visitorsAnswer } from "./fetch-guest.ts";
import { cameOverTls, type Visit } from "./visit.ts";
import { admitVisitor, byLink } from "./visitor.ts";

const METHOD_REFUSED = failure("method-not-allowed", "A VM's name takes every method but CONNECT and TRACE.");

/** The VM's name that a request's `Host` header has; null: the request is one to the API. */
export function visitedName({ env, url }: Edge): VmName | null {
  return parseVmName(url.hostname.toLowerCase(), env.VM_DOMAIN?.toLowerCase() ?? "");
}

/** An answer to a visitor, and whether the guest gave it. */
interface VisitAnswer {
  readonly answer: Response;
  readonly isGuests: boolean;
}

/** Serves HTTP to a VM by its name, `<vm-id>[-<port>].<VM_DOMAIN>`. A visitor is authorised before anything is woken. */
export async function serveVmName(edge: Edge, request: Request, name: VmName): Promise<VisitAnswer> {
  try {
    const refused = refuseHead(edge);
    if (refused !== null) return ours(refused);
    if (name.kind === "nobody") return ours(failureAnswer(VM_NOT_FOUND.failure, "v5", edge.settings));
    const { vmId, port: namedPort } = name;
    const url = new URL(request.url);
    const visit: Visit = { request, url, vmId, namedPort, isSecure: cameOverTls(url, request.headers) };
    const answer = await limitFailures(edge, await answerVisit(edge, visit));
    return answer.ok ? { answer: answer.value, isGuests: true } : ours(failureAnswer(answer.failure, "v5", edge.settings));
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return ours(answerError(error, edge));
  }
}

function ours(answer: Response): VisitAnswer {
  return { answer, isGuests: false };
}

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
