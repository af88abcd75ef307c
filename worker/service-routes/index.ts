import { Hono } from "hono";
import { FEED_REGION_HEADER, FEED_SERVICE_HEADER } from "../../durable-objects/contract.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import {
  type EnrolmentAnswer,
  enrolmentRequest,
  type MachineStatesAnswer,
  machineStatesReport,
  type ServiceKind,
  type SessionCheckAnswer,
  type SshTicketAnswer,
  type SshTicketRequest,
  sessionCheckRequest,
  sshTicketRequest,
} from "../../protocol/service-api.ts";
import { type Attempt, newAttempt, noteVerdict } from "../audit/attempt.ts";
import { noteLinuxUser, noteNames } from "../audit/deed.ts";
import { type Deed, recordAttempt } from "../audit/record.ts";
import { authenticateText } from "../auth/authenticate.ts";
import {
  authenticateEnroller,
  authenticateService,
  ENROLLER_REFUSED,
  SERVICE_REFUSED,
  type ServicePrincipal,
} from "../auth/service.ts";
import type { Edge, EdgeContext, EdgeHono } from "../edge.ts";
import { jsonAnswer, serviceFailureAnswer } from "../http/answers.ts";
import { requestLimits } from "../http/body.ts";
import { readJson } from "../http/input.ts";
import { limitFailures, limitPrincipal } from "../limits/rate-limits.ts";
import { logEvent } from "../log.ts";
import { regionObject, tell } from "../objects.ts";
import { authorise } from "../services/authorise.ts";
import { passOnStates } from "../services/machine-states.ts";
import { checkSession } from "../services/sessions.ts";
import { forwarderTicket } from "../services/tickets.ts";
import { dropSigner } from "../tickets/signer.ts";

const SSH_LOGIN: Deed = { operation: "ssh-login", recording: "soon" };

/** What hosts and forwarders ask of the edge (`protocol/service-api.ts`, `protocol/feed.ts`), by their own keys. */
export function serviceRoutes(): Hono<EdgeHono> {
  const routes = new Hono<EdgeHono>();
  routes.post("/enrolments", (c) =>
    answer(c, authenticateEnroller, (edge, { routing, secretHash }) => enrol(edge, routing, secretHash, c.req.raw)),
  );
  routes.post("/ssh-tickets", (c) =>
    answer(c, shownBy("forwarder"), (edge, forwarder) => issueSshTicket(edge, forwarder, c.req.raw)),
  );
  routes.post("/session-checks", (c) => answer(c, shownBy(null), (edge, asker) => recheckSession(edge, asker, c.req.raw)));
  routes.post("/machine-states", (c) => answer(c, shownBy("host"), (edge, host) => takeMachineStates(edge, host, c.req.raw)));
  routes.get("/feed", (c) => openFeed(c));
  return routes;
}

function shownBy(wanted: ServiceKind | null) {
  return (edge: Edge, headers: Headers) => authenticateService(edge, headers, wanted);
}

async function answer<T>(
  c: EdgeContext,
  authenticated: (edge: Edge, headers: Headers) => Promise<Result<T>>,
  handle: (edge: Edge, asker: T) => Promise<Result<unknown>>,
): Promise<Response> {
  const edge = c.env;
  const asker = await limitFailures(edge, await authenticated(edge, c.req.raw.headers));
  const result = asker.ok ? await handle(edge, asker.value) : asker;
  return result.ok ? jsonAnswer(result.value) : serviceFailureAnswer(result.failure, edge.settings);
}

async function enrol(edge: Edge, region: string, secretHash: string, request: Request): Promise<Result<EnrolmentAnswer>> {
  const wish = await readJson(request, requestLimits(edge), enrolmentRequest);
  if (!wish.ok) return wish;
  const enrolled = await tell(() => regionObject(edge.env, region).enrol(secretHash, wish.value));
  const isRefused = !enrolled.ok && enrolled.failure.kind === "credential-invalid";
  const outcome = enrolled.ok ? enrolled.value.serviceId : enrolled.failure.kind;
  logEvent("enrolment", { traceId: edge.traceId, kind: wish.value.kind, outcome });
  return isRefused ? limitFailures(edge, ENROLLER_REFUSED) : enrolled;
}

async function issueSshTicket(edge: Edge, service: ServicePrincipal, request: Request): Promise<Result<SshTicketAnswer>> {
  const login = await readJson(request, requestLimits(edge), sshTicketRequest);
  if (!login.ok) return login;
  const { clientAddress, forwarderId } = login.value;
  const attempt = newAttempt();
  const forClient = { ...edge, clientAddress };
  const decided = await limitFailures(forClient, await decideLogin(edge, service, login.value, attempt));
  const ticket = await recordAttempt(forClient, SSH_LOGIN, attempt, decided);
  const outcome = ticket.ok ? "admitted" : ticket.failure.kind;
  logEvent("ssh-login", { traceId: edge.traceId, region: service.region, forwarderId, clientAddress, outcome });
  return ticket;
}

async function decideLogin(
  edge: Edge,
  service: ServicePrincipal,
  login: SshTicketRequest,
  attempt: Attempt,
): Promise<Result<SshTicketAnswer>> {
  const { vmId, linuxUser, token, forwarderId, voidedKey } = login;
  if (voidedKey !== undefined) dropSigner(voidedKey);
  const credential = await authenticateText(edge, token);
  if (!credential.ok) return credential;
  const limited = await limitPrincipal(edge, credential.value);
  if (!limited.ok) return limited;
  attempt.credential = credential.value;
  noteNames(attempt, { vmId });
  noteLinuxUser(attempt, linuxUser);
  const authority = await authorise(edge, credential.value, { vmId, operation: "ssh", linuxUser });
  if (!authority.ok) return authority;
  noteVerdict(attempt, authority.value.verdict);
  const ticket = await forwarderTicket(edge, authority.value, { id: forwarderId, region: service.region });
  return ticket.ok ? success({ ticket: ticket.value }) : ticket;
}

async function recheckSession(edge: Edge, asker: ServicePrincipal, request: Request): Promise<Result<SessionCheckAnswer>> {
  const session = await readJson(request, requestLimits(edge), sessionCheckRequest);
  return session.ok ? checkSession(edge, asker, session.value) : session;
}

async function takeMachineStates(edge: Edge, host: ServicePrincipal, request: Request): Promise<Result<MachineStatesAnswer>> {
  const report = await readJson(request, requestLimits(edge), machineStatesReport);
  return report.ok ? success(await passOnStates(edge, host, report.value)) : report;
}

/** Passes the upgrade to the region's object, which keeps the socket; the assertion itself goes no further. */
async function openFeed(c: EdgeContext): Promise<Response> {
  const edge = c.env;
  const dialler = await limitFailures(edge, await authenticateService(edge, c.req.raw.headers));
  if (!dialler.ok) return serviceFailureAnswer(dialler.failure, edge.settings);
  if (c.req.header("upgrade")?.toLowerCase() !== "websocket") {
    return serviceFailureAnswer(failure("bad-request", "The feed is a WebSocket.").failure, edge.settings);
  }
  const headers = new Headers(c.req.raw.headers);
  headers.delete("authorization");
  headers.set(FEED_REGION_HEADER, dialler.value.region);
  headers.set(FEED_SERVICE_HEADER, dialler.value.serviceId);
  const answer = await regionObject(edge.env, dialler.value.regionObjectName).fetch(new Request(c.req.url, { headers }));
  // The object looks again: the service may have been revoked since it was asked about the assertion.
  return answer.status === 101 ? answer : serviceFailureAnswer(SERVICE_REFUSED.failure, edge.settings);
}
