import type { Hono } from "hono";
import { strictObject, ZodObject, type ZodType } from "zod";
import { failure, type Result, success } from "../../protocol/failures.ts";
import type { Operation } from "../../protocol/operations.ts";
import type { Credential } from "../../protocol/tokens.ts";
import { type Attempt, actorOf, newAttempt, noteVerdict } from "../audit/attempt.ts";
import { deedOf, noteLinuxUser, noteMade, noteNames } from "../audit/deed.ts";
import { recordAttempt } from "../audit/record.ts";
import { authenticate } from "../auth/authenticate.ts";
import { shownTicket, verifyClientTicket } from "../auth/client-ticket.ts";
import { resolveAccount, resolvePrincipal } from "../auth/resolve.ts";
import type { Edge, EdgeContext, EdgeHono } from "../edge.ts";
import { authorisedCaller, ticketHolder } from "../hosts/host-caller.ts";
import { type Dialect, failureAnswer, jsonAnswer } from "../http/answers.ts";
import { requestLimits } from "../http/body.ts";
import { check, readJson } from "../http/input.ts";
import { readQuery } from "../http/query.ts";
import { routingPath } from "../http/routing-path.ts";
import { upgradeTo } from "../http/upgrade.ts";
import { urlParts } from "../http/url-parts.ts";
import { limitFailures, limitPrincipal } from "../limits/rate-limits.ts";
import { type Authority, authorise, authoriseForward } from "../services/authorise.ts";
import { Pending } from "../services/background.ts";
import { vmIdNamed } from "../services/vms-slugs.ts";
import { pendingAnswer } from "./background.ts";
import type { Endpoint, Input } from "./endpoint.ts";

const NO_QUERY = strictObject({});

/** Header with which 0.1 names the Linux user of an operation. */
export const LINUX_USER_HEADER = "x-freestyle-vm-linux-user-id";

/**
 * Serves endpoints in one dialect. Every one goes the same way: authenticate, authorise, read the input, decide,
 * translate; so nothing is parsed for a stranger and no handler can forget who calls.
 */
export function mountEndpoints(app: Hono<EdgeHono>, endpoints: readonly Endpoint[], dialect: Dialect): void {
  for (const endpoint of endpoints) {
    const deed = deedOf(endpoint);
    app.on(endpoint.method.toUpperCase(), toHonoPath(endpoint.path), async (c) => {
      const edge = c.get("edge");
      const attempt = newAttempt();
      const answer = await recordAttempt(edge, deed, attempt, await attemptOf(c, endpoint, dialect, attempt));
      if (!answer.ok) return failureAnswer(answer.failure, dialect, edge.settings);
      if (answer.value instanceof Pending) return pendingAnswer(answer.value);
      if (answer.value === undefined) return new Response(null, { status: 204 });
      return answer.value instanceof Response ? answer.value : jsonAnswer(answer.value);
    });
  }
}

/** Serves a request, counts it if it was a stranger's, and notes for the audit trail what it made. */
async function attemptOf(c: EdgeContext, endpoint: Endpoint, dialect: Dialect, attempt: Attempt): Promise<Result<unknown>> {
  const edge = c.get("edge");
  const answer = await limitFailures(edge, edge.clientAddress, await run(c, endpoint, dialect, attempt));
  if (answer.ok) noteMade(attempt, endpoint, answer.value);
  return answer;
}

async function run(c: EdgeContext, endpoint: Endpoint, dialect: Dialect, attempt: Attempt): Promise<Result<unknown>> {
  const edge = c.get("edge");
  const { admission } = endpoint;
  const ticket = admission.access === "vm-socket" ? shownTicket(c.req.raw) : null;
  if (admission.access === "vm-socket" && ticket !== null) return runByTicket(c, endpoint, admission.operation, ticket);
  const credential = await authenticate(edge, c.req.raw.headers);
  if (!credential.ok) return credential;
  const limited = await limitPrincipal(edge, credential.value);
  if (!limited.ok) return limited;
  attempt.credential = credential.value;
  const path = readPath(endpoint.path, c.req.url);
  noteNames(attempt, path.values);
  const early = endpoint.linuxUser === undefined ? null : await readInput(c, endpoint, path);
  if (early !== null && !early.ok) {
    const principal = await resolvePrincipal(edge, credential.value);
    return principal.ok ? early : principal;
  }
  const linuxUser = early === null ? c.req.header(LINUX_USER_HEADER) : endpoint.linuxUser?.(early.value);
  const vm = { named: path.values.vmId ?? "", maySlug: dialect === "v5" };
  noteLinuxUser(attempt, linuxUser ?? null);
  const caller = await admit(edge, endpoint, credential.value, vm, linuxUser ?? null, attempt);
  if (!caller.ok) return caller;
  const input = early ?? (await readInput(c, endpoint, path));
  if (input.ok) noteNames(attempt, input.value.body);
  return input.ok ? serve(c, endpoint, caller.value, input.value) : input;
}

/** The same for a WebSocket whose client shows a ticket: that is its whole authority. */
async function runByTicket(c: EdgeContext, endpoint: Endpoint, operation: Operation, ticket: string): Promise<Result<unknown>> {
  const edge = c.get("edge");
  const path = readPath(endpoint.path, c.req.url);
  const input = await readInput(c, endpoint, path);
  const linuxUser =
    endpoint.linuxUser === undefined ? c.req.header(LINUX_USER_HEADER) : input.ok && endpoint.linuxUser(input.value);
  const wanted = { vmId: path.values.vmId ?? "", operation, linuxUser: linuxUser || null };
  const claims = await verifyClientTicket(edge, ticket, wanted);
  if (!claims.ok) return claims;
  return input.ok ? serve(c, endpoint, ticketHolder(edge, ticket, claims.value), input.value) : input;
}

async function serve(
  c: EdgeContext,
  endpoint: Endpoint,
  caller: unknown,
  input: Input<string, unknown, unknown>,
): Promise<Result<unknown>> {
  const handle = () => endpoint.handle(c.get("edge"), caller, input);
  return endpoint.admission.access === "vm-socket" ? upgradeTo(c.req.raw, handle) : handle();
}

async function admit(
  edge: Edge,
  { admission, unnamedUser }: Endpoint,
  credential: Credential,
  vm: { readonly named: string; readonly maySlug: boolean },
  linuxUser: string | null,
  attempt: Attempt,
): Promise<Result<unknown>> {
  switch (admission.access) {
    case "account":
    case "principal": {
      const isForKeys = admission.access === "account";
      const principal = await (isForKeys ? resolveAccount(edge, credential) : resolvePrincipal(edge, credential));
      if (principal.ok) attempt.actor = actorOf(principal.value);
      return principal;
    }
    case "vm":
    case "vm-socket": {
      const vmId = vm.maySlug ? await vmIdNamed(edge, credential, vm.named) : success(vm.named);
      if (!vmId.ok) return vmId;
      const { operation } = admission;
      const wanted = { vmId: vmId.value, operation, linuxUser, ...(unnamedUser === undefined ? {} : { unnamedUser }) };
      const mayBeKnown = admission.access === "vm-socket" || admission.isForwarded;
      const authorised = await (mayBeKnown ? authoriseForward : authorise)(edge, credential, wanted);
      if (!authorised.ok) return authorised;
      const authority: Authority = { ...authorised.value, actedAs: (user) => noteLinuxUser(attempt, user) };
      noteVerdict(attempt, authority.verdict);
      return success(admission.access === "vm" ? authority : authorisedCaller(edge, authority));
    }
  }
}

/** The named segments of a path; `isText` is false when one is not percent-encoded UTF-8, and then it is empty. */
interface PathSegments {
  readonly values: Readonly<Record<string, string>>;
  readonly isText: boolean;
}

async function readInput(c: EdgeContext, endpoint: Endpoint, path: PathSegments): Promise<Result<Input<string, unknown, unknown>>> {
  if (!path.isText) return failure("bad-request", "The path of the request is not correctly percent-encoded.");
  const sent = readQuery(c.req.raw.url);
  if (sent === null) return failure("bad-request", "The query of the request is not correctly percent-encoded.");
  const query = check(knownQuery(endpoint), endpoint.admission.access === "vm-socket" ? withoutTicket(sent) : sent);
  if (!query.ok) return query;
  const body = await readJsonBody(c, endpoint);
  return body.ok ? success({ path: path.values, query: query.value, body: body.value, request: c.req.raw }) : body;
}

/** The query's schema, which refuses what it does not know: a misspelt filter must not answer everything. */
function knownQuery({ query }: Endpoint): ZodType {
  if (query === undefined) return NO_QUERY;
  return query instanceof ZodObject ? query.strict() : query;
}

/** A ticket in the query is a credential, and no input. */
function withoutTicket({ ticket: _, ...rest }: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return rest;
}

async function readJsonBody(c: EdgeContext, endpoint: Endpoint): Promise<Result<unknown>> {
  if (endpoint.body === undefined) return success(undefined);
  const edge = c.get("edge");
  const body = await readJson(c.req.raw, requestLimits(edge, endpoint.maxBodyBytes?.(edge.settings)), endpoint.body);
  if (body.ok || body.failure.kind !== "bad-request" || endpoint.invalidBody === undefined) return body;
  return { ok: false, failure: { ...body.failure, kind: endpoint.invalidBody } };
}

function toHonoPath(path: string): string {
  return routingPath(path.replaceAll(/\{(\w+)\}/g, ":$1"));
}

/**
 * Reads the named segments of a request's path, each decoded once. Read from the raw URL: a file path is one segment
 * whose slashes arrive as `%2F`.
 */
function readPath(pattern: string, url: string): PathSegments {
  const segments = urlParts(url).pathname.split("/");
  const values: Record<string, string> = {};
  let isText = true;
  for (const [index, part] of pattern.split("/").entries()) {
    const name = /^\{(\w+)\}$/.exec(part)?.[1];
    if (name === undefined) continue;
    const decoded = decodeSegment(segments[index] ?? "");
    values[name] = decoded ?? "";
    isText &&= decoded !== null;
  }
  return { values, isText };
}

function decodeSegment(segment: string): string | null {
  try {
    return decodeURIComponent(segment);
  } catch {
    return null;
  }
}
