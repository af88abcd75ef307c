import type { Hono } from "hono";
import { type Result, success } from "../../protocol/failures.ts";
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
import { routingPath } from "../http/routing-path.ts";
import { upgradeTo } from "../http/upgrade.ts";
import { limitFailures, limitPrincipal } from "../limits/rate-limits.ts";
import { type Authority, authorise, authoriseForward } from "../services/authorise.ts";
import { Pending } from "../services/background.ts";
import { vmIdNamed } from "../services/vms-slugs.ts";
import { pendingAnswer } from "./background.ts";
import type { Endpoint, Input } from "./endpoint.ts";
import { InputReader } from "./input-reader.ts";

/** Header with which 0.1 names the Linux user of an operation. */
export const LINUX_USER_HEADER = "x-freestyle-vm-linux-user-id";

/**
 * Serves endpoints in one dialect. Every one goes the same way: authenticate, authorise, read the input, decide,
 * translate; so nothing is parsed for a stranger and no handler can forget who calls.
 */
export function mountEndpoints(app: Hono<EdgeHono>, endpoints: readonly Endpoint[], dialect: Dialect): void {
  for (const endpoint of endpoints) {
    const deed = deedOf(endpoint);
    const served: Served = { endpoint, dialect, reader: new InputReader(endpoint) };
    app.on(endpoint.method.toUpperCase(), toHonoPath(endpoint.path), async (c) => {
      const edge = c.env;
      const attempt = newAttempt();
      const answer = await recordAttempt(edge, deed, attempt, await attemptOf(c, served, attempt));
      if (!answer.ok) return failureAnswer(answer.failure, dialect, edge.settings);
      if (answer.value instanceof Pending) return pendingAnswer(answer.value);
      if (answer.value === undefined) return new Response(null, { status: 204 });
      return answer.value instanceof Response ? answer.value : jsonAnswer(answer.value);
    });
  }
}

/** An endpoint as one dialect serves it. */
interface Served {
  readonly endpoint: Endpoint;
  readonly dialect: Dialect;
  readonly reader: InputReader;
}

/** Serves a request, counts it if it was a stranger's, and notes for the audit trail what it made. */
async function attemptOf(c: EdgeContext, served: Served, attempt: Attempt): Promise<Result<unknown>> {
  const answer = await limitFailures(c.env, await run(c, served, attempt));
  if (answer.ok) noteMade(attempt, served.endpoint, answer.value);
  return answer;
}

async function run(c: EdgeContext, served: Served, attempt: Attempt): Promise<Result<unknown>> {
  const edge = c.env;
  const { endpoint, dialect, reader } = served;
  const { admission } = endpoint;
  const ticket = admission.access === "vm-socket" ? shownTicket(c.req.raw) : null;
  if (admission.access === "vm-socket" && ticket !== null) return runByTicket(c, served, admission.operation, ticket);
  const credential = await authenticate(edge, edge.head);
  if (!credential.ok) return credential;
  const limited = await limitPrincipal(edge, credential.value);
  if (!limited.ok) return limited;
  attempt.credential = credential.value;
  const path = reader.path(edge);
  noteNames(attempt, path.values);
  const early = endpoint.linuxUser === undefined ? null : await reader.input(edge, c.req.raw, path);
  if (early !== null && !early.ok) {
    const principal = await resolvePrincipal(edge, credential.value);
    return principal.ok ? early : principal;
  }
  const linuxUser = early === null ? edge.head.get(LINUX_USER_HEADER) : endpoint.linuxUser?.(early.value);
  const vm = { named: path.values.vmId ?? "", maySlug: dialect === "v5" };
  noteLinuxUser(attempt, linuxUser ?? null);
  const caller = await admit(edge, endpoint, credential.value, vm, linuxUser ?? null, attempt);
  if (!caller.ok) return caller;
  const input = early ?? (await reader.input(edge, c.req.raw, path));
  if (input.ok) noteNames(attempt, input.value.body);
  return input.ok ? serve(c, endpoint, caller.value, input.value) : input;
}

/** The same for a WebSocket whose client shows a ticket: that is its whole authority. */
async function runByTicket(c: EdgeContext, served: Served, operation: Operation, ticket: string): Promise<Result<unknown>> {
  const edge = c.env;
  const { endpoint, reader } = served;
  const path = reader.path(edge);
  const input = await reader.input(edge, c.req.raw, path);
  const linuxUser =
    endpoint.linuxUser === undefined ? edge.head.get(LINUX_USER_HEADER) : input.ok && endpoint.linuxUser(input.value);
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
  const handle = () => endpoint.handle(c.env, caller, input);
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

function toHonoPath(path: string): string {
  return routingPath(path.replaceAll(/\{(\w+)\}/g, ":$1"));
}
