import type { AuditEvent } from "../../durable-objects/audit-contract.ts";
import { type FailureKind, failure, type Result } from "../../protocol/failures.ts";
import { resolvePrincipal } from "../auth/resolve.ts";
import type { Edge } from "../edge.ts";
import { ask, auditObject } from "../objects.ts";
import { type Actor, type Attempt, actorOf } from "./attempt.ts";
import { gather } from "./batch.ts";

/**
 * When an attempt is written down. `before-answer`: nothing is acknowledged that is not in the trail. `soon`: after the
 * answer, best effort. `refusals`: likewise, and only if it was refused.
 */
export type Recording = "before-answer" | "soon" | "refusals";

/** What was attempted: method and route, or `ssh-login`. */
export interface Deed {
  readonly operation: string;
  readonly recording: Recording;
}

/** Failures that refuse, even to somebody who was let in. The rest is what went wrong with something allowed. */
const REFUSALS: ReadonlySet<FailureKind> = new Set([
  "credential-invalid",
  "forbidden",
  "linux-user-forbidden",
  "vm-not-found",
  "identity-not-found",
  "token-not-found",
  "grant-not-found",
  "background-request-not-found",
  "session-user-mismatch",
  "quota-exceeded",
  "vm-quota-exceeded",
]);

/** Failures that leave open who called. */
const OF_NOBODY: ReadonlySet<FailureKind> = new Set(["credential-invalid", "rate-limited", "authority-unavailable"]);

const NOT_RECORDED = failure(
  "authority-unavailable",
  "This could not be entered in the audit trail. It may or may not have been done: look before you try again.",
);

/**
 * Enters what came of an attempt in the audit trail of its account and answers it unchanged; or `authority-unavailable`
 * where it had to be entered first and could not be. Attempts of strangers are nobody's: they are only counted.
 */
export async function recordAttempt<T>(edge: Edge, deed: Deed, attempt: Attempt, result: Result<T>): Promise<Result<T>> {
  const verdict = verdictOf(attempt, result);
  if (deed.recording === "refusals" && verdict === "allowed") return result;
  const actor = attempt.actor ?? (await refusedActor(edge, attempt, result));
  if (actor === null) return result;
  const event = { ...eventOf(edge, deed, attempt, actor), verdict, failure: result.ok ? null : result.failure.kind };
  if (deed.recording === "before-answer" && result.ok) return enter(edge, actor.accountId, event, result);
  gather(edge, actor.accountId, event);
  return result;
}

/** Enters what the operator did to an account. */
export async function recordOperator<T>(edge: Edge, operation: string, accountId: string, result: Result<T>): Promise<Result<T>> {
  const event: AuditEvent = {
    at: edge.clock(),
    traceId: edge.traceId,
    subject: "operator",
    credentialId: null,
    operation,
    vmId: null,
    identityId: null,
    linuxUser: null,
    clientAddress: edge.clientAddress,
    verdict: "allowed",
    failure: null,
  };
  return result.ok ? enter(edge, accountId, event, result) : result;
}

async function enter<T>(edge: Edge, accountId: string, event: AuditEvent, result: Result<T>): Promise<Result<T>> {
  const written = await ask(() => auditObject(edge.env, accountId).append([event]));
  return written.ok ? result : NOT_RECORDED;
}

function verdictOf({ actor }: Attempt, result: Result<unknown>): AuditEvent["verdict"] {
  return result.ok || (actor !== null && !REFUSALS.has(result.failure.kind)) ? "allowed" : "refused";
}

/** Who was not let in, if the credential is somebody's: asked only for those, since the verdict that refuses names nobody. */
async function refusedActor(edge: Edge, { credential }: Attempt, result: Result<unknown>): Promise<Actor | null> {
  if (credential === null || result.ok || OF_NOBODY.has(result.failure.kind)) return null;
  const principal = await resolvePrincipal(edge, credential);
  return principal.ok ? actorOf(principal.value) : null;
}

function eventOf(edge: Edge, { operation }: Deed, attempt: Attempt, { subject, credentialId }: Actor) {
  const { vmId, identityId, linuxUser } = attempt;
  return {
    at: edge.clock(),
    traceId: edge.traceId,
    subject,
    credentialId,
    operation,
    vmId,
    identityId,
    linuxUser,
    clientAddress: edge.clientAddress,
  };
}
