import type { TaskResult } from "../../durable-objects/background-contract.ts";
import type { Verdict, VerdictQuestion } from "../../durable-objects/contract.ts";
import { type FailureKind, failure, type Result, success } from "../../protocol/failures.ts";
import { isBackgroundId } from "../../protocol/ids.ts";
import { accountSubject, identitySubject } from "../../protocol/subjects.ts";
import type { Principal } from "../auth/principal.ts";
import type { Edge } from "../edge.ts";
import { forward } from "../hosts/forward.ts";
import { accountObject, ask, backgroundRequestObject, identityObject } from "../objects.ts";
import type { Authority } from "./authorise.ts";
import { jobPath, jobResult, Pending } from "./background.ts";
import { keyVerdict } from "./known.ts";

/** What a poll finds: the request goes on, or this came of it. */
export type Polled = Pending | { readonly kind: "exec"; readonly result: Result<Response> } | TaskResult;

const NOT_FOUND = failure(
  "background-request-not-found",
  "There is no such request in the background, or it is not yours, or its result is no longer kept.",
);

/** Troubles that pass: the caller polls again. Every other refusal is as if the request did not exist. */
const PASSING: ReadonlySet<FailureKind> = new Set([
  "authority-unavailable",
  "host-unavailable",
  "rate-limited",
  "stale-authority",
  "vm-busy",
]);

/**
 * Asks for the result of a request in the background. Authorised anew every time: only who asked for it may know of it, and
 * only while the VM and the Linux user are still theirs.
 */
export async function pollBackground(edge: Edge, principal: Principal, requestId: string): Promise<Result<Polled>> {
  if (!isBackgroundId(requestId)) return NOT_FOUND;
  const polled = await poll(edge, principal, requestId);
  return polled.ok || PASSING.has(polled.failure.kind) ? polled : NOT_FOUND;
}

async function poll(edge: Edge, principal: Principal, requestId: string): Promise<Result<Polled>> {
  const found = await ask(() => backgroundRequestObject(edge.env, requestId).read());
  if (!found.ok) return found;
  const { kind, subject, vmId, linuxUser } = found.value;
  if (subject !== subjectOf(principal)) return NOT_FOUND;
  if (kind !== "exec") {
    const ended = await ask(() => backgroundRequestObject(edge.env, requestId).ended(0));
    return ended.ok ? success(ended.value ?? new Pending(requestId, vmId)) : ended;
  }
  const authority = await authoriseAgain(edge, principal, { vmId, operation: "exec", linuxUser });
  if (!authority.ok) return authority;
  const answer = await forward(edge, authority.value, { method: "GET", path: jobPath(vmId, requestId) });
  if (!answer.ok) return answer;
  const result = await jobResult(edge, answer.value);
  return success(result === null ? new Pending(requestId, vmId) : { kind, result });
}

function subjectOf(principal: Principal): string {
  return principal.kind === "account" ? accountSubject(principal.accountId) : identitySubject(principal.identityId);
}

/** A verdict for a caller whose credential was resolved, read from its object now. */
async function authoriseAgain(edge: Edge, principal: Principal, question: VerdictQuestion): Promise<Result<Authority>> {
  const read = () => readAgain(edge, principal, question);
  const verdict = await read();
  return verdict.ok ? success({ verdict: verdict.value, reread: read }) : verdict;
}

async function readAgain(edge: Edge, principal: Principal, question: VerdictQuestion): Promise<Result<Verdict>> {
  if (principal.kind === "identity") {
    return await ask(() => identityObject(edge.env, principal.identityId).recheck(principal.tokenId, question));
  }
  const standing = await ask(() => accountObject(edge.env, principal.accountId).recheck(principal.keyId));
  return standing.ok ? success(keyVerdict(standing.value, question)) : standing;
}
