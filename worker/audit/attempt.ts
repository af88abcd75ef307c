import type { Verdict } from "../../durable-objects/contract.ts";
import { accountSubject, identitySubject } from "../../protocol/subjects.ts";
import type { Credential } from "../../protocol/tokens.ts";
import type { Principal } from "../auth/principal.ts";

/** Who acts, as an object has confirmed it. */
export interface Actor {
  readonly accountId: string;
  readonly subject: string;
  readonly credentialId: string | null;
}

/** What becomes known of a request while it is served, for its audit event. */
export interface Attempt {
  /** Set once shape and MAC of the credential are right. */
  credential: Credential | null;
  /** Set once the request was let in. */
  actor: Actor | null;
  vmId: string | null;
  identityId: string | null;
  linuxUser: string | null;
}

export function newAttempt(): Attempt {
  return { credential: null, actor: null, vmId: null, identityId: null, linuxUser: null };
}

export function actorOf(principal: Principal): Actor {
  const { accountId } = principal;
  return principal.kind === "account"
    ? { accountId, subject: accountSubject(accountId), credentialId: principal.keyId }
    : { accountId, subject: identitySubject(principal.identityId), credentialId: principal.tokenId };
}

/** Notes that an attempt was let in by a verdict. */
export function noteVerdict(attempt: Attempt, { accountId, subject, credentialId, vmId, linuxUser }: Verdict): void {
  attempt.actor = { accountId, subject, credentialId };
  attempt.vmId = vmId;
  attempt.linuxUser = linuxUser;
}
