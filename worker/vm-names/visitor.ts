import type { Verdict } from "../../durable-objects/contract.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { type HttpLink, readHttpLink } from "../../protocol/http-link.ts";
import { accountSubject } from "../../protocol/subjects.ts";
import { PUBLIC_CREDENTIAL } from "../../protocol/ticket.ts";
import { authenticateText } from "../auth/authenticate.ts";
import { macKeysOf } from "../auth/mac-keys.ts";
import { IDENTITY_TOKEN_HEADER } from "../auth/presented.ts";
import type { Edge } from "../edge.ts";
import { addressKey } from "../limits/client-address.ts";
import { limitPrincipal, limitVisitor } from "../limits/rate-limits.ts";
import { accountObject, ask, identityObject, vmObject } from "../objects.ts";
import { type Authority, authorise } from "../services/authorise.ts";
import { accessCookies } from "./cookie.ts";
import { isFromOtherPage } from "./other-pages.ts";
import { guestPort, type Visit } from "./visit.ts";

/** The same bytes whether the VM is there or not. */
const PRIVATE = failure(
  "credential-missing",
  "This VM is private, or does not exist. Send an access token as `X-Freestyle-Identity-Access-Token`, or open a signed link to it.",
);

const BEARER_CREDENTIAL = /^bearer +(ps[tks]_[a-z2-7]{46}) *$/i;

/**
 * The credential of ours that a visitor shows, or null. A bearer of any other form is for the guest; one of ours never is,
 * wherever it was put by mistake.
 */
export function shownCredential(headers: Headers): string | null {
  const token = headers.get(IDENTITY_TOKEN_HEADER)?.trim();
  if (token !== undefined && token !== "") return token;
  return BEARER_CREDENTIAL.exec(headers.get("authorization") ?? "")?.[1] ?? null;
}

/**
 * Decides whether a visitor may reach the guest: by the credential that it shows, else by its cookie, else because the owner
 * opened the port to everybody. Wakes nothing. Whoever shows nothing gets the same refusal for every name.
 */
export async function admitVisitor(edge: Edge, visit: Visit): Promise<Result<Authority>> {
  const { request, url, vmId } = visit;
  const shown = shownCredential(request.headers);
  if (shown !== null) return byCredential(edge, shown, vmId);
  const texts = isFromOtherPage(request, url) ? [] : accessCookies(request.headers.get("cookie"));
  for (const text of texts) {
    const admitted = await byLink(edge, visit, text);
    if (admitted.ok || admitted.failure.kind === "authority-unavailable" || admitted.failure.kind === "rate-limited")
      return admitted;
  }
  return byExposure(edge, visit);
}

/** Decides by a signed text, of a link or of the cookie that the link set. */
export async function byLink(edge: Edge, visit: Visit, text: string): Promise<Result<Authority & { readonly link: HttpLink }>> {
  const link = await readHttpLink(text, await macKeysOf(edge.env), edge.clock());
  if (link === null || link.vm !== visit.vmId || link.port !== visit.namedPort) return PRIVATE;
  const limited = await limitVisitor(edge, `link:${link.sub}:${link.cred}`);
  if (!limited.ok) return limited;
  const read = () => verdictOfLink(edge, link);
  const verdict = await read();
  if (verdict.ok) return success({ verdict: verdict.value, reread: read, link });
  return verdict.failure.kind === "authority-unavailable" ? verdict : PRIVATE;
}

async function byCredential(edge: Edge, text: string, vmId: string): Promise<Result<Authority>> {
  const credential = await authenticateText(edge, text);
  if (!credential.ok) return credential;
  const limited = await limitPrincipal(edge, credential.value);
  return limited.ok ? authorise(edge, credential.value, { vmId, operation: "http", linuxUser: null }) : limited;
}

async function verdictOfLink(edge: Edge, { vm: vmId, sub, cred, exp }: HttpLink): Promise<Result<Verdict>> {
  const [kind, objectName = ""] = sub.split(":");
  const question = { vmId, operation: "http", linuxUser: null } as const;
  if (kind === "identity") return ask(() => identityObject(edge.env, objectName).recheck(cred, question));
  const key = await ask(() => accountObject(edge.env, objectName).recheck(cred));
  if (!key.ok) return key;
  const { accountId, epoch, readAt } = key.value;
  return success({ ...question, subject: sub, accountId, credentialId: cred, epoch, readAt, expiresAt: exp * 1000, grant: null });
}

async function byExposure(edge: Edge, visit: Visit): Promise<Result<Authority>> {
  const address = edge.clientAddress === null ? "unknown" : addressKey(edge.clientAddress);
  const limited = await limitVisitor(edge, `public:${visit.vmId}:${address}`);
  if (!limited.ok) return limited;
  const read = () => publicVerdict(edge, visit);
  const verdict = await read();
  return verdict.ok ? success({ verdict: verdict.value, reread: read }) : verdict;
}

/** Everybody comes on behalf of the account that opened the port. */
async function publicVerdict(edge: Edge, visit: Visit): Promise<Result<Verdict>> {
  const { vmId } = visit;
  const exposure = await ask(() => vmObject(edge.env, vmId).exposure());
  if (!exposure.ok) return exposure.failure.kind === "authority-unavailable" ? exposure : PRIVATE;
  const { accountId, ports } = exposure.value;
  if (!guestPort(visit, ports).isPublic) return PRIVATE;
  const account = await ask(() => accountObject(edge.env, accountId).epoch());
  if (!account.ok) return account;
  const subject = accountSubject(accountId);
  const who = { subject, accountId, credentialId: PUBLIC_CREDENTIAL };
  return success({ ...who, vmId, operation: "http", linuxUser: null, ...account.value, expiresAt: null, grant: null });
}
