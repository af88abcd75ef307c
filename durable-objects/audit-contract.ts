import type { FailureKind, Result } from "../protocol/failures.ts";

/** What the trail keeps of one attempt. Never a credential, a command, a path in a guest or a content. */
export interface AuditEvent {
  /** Milliseconds since 1970 UTC. */
  readonly at: number;
  readonly traceId: string;
  /** `account:…`, `identity:…`, or `operator`. */
  readonly subject: string;
  /** Id of the API key or access token; null for the operator. */
  readonly credentialId: string | null;
  /** Method and route, or `ssh-login`. */
  readonly operation: string;
  /** VM and identity that it was about, as far as there are such. */
  readonly vmId: string | null;
  readonly identityId: string | null;
  readonly linuxUser: string | null;
  readonly clientAddress: string | null;
  readonly verdict: "allowed" | "refused";
  /** Why it was refused, or what went wrong with what was allowed. */
  readonly failure: FailureKind | null;
}

/** An event as it is listed; ids rise in the order of arrival. */
export interface AuditRow extends AuditEvent {
  readonly id: number;
}

/** Which events; each member narrows. */
export interface AuditQuery {
  readonly vmId?: string | undefined;
  /** As who acted, or as what was acted upon. */
  readonly identityId?: string | undefined;
  readonly verdict?: AuditEvent["verdict"] | undefined;
  /** Only events with a smaller id. */
  readonly before?: number | undefined;
  readonly limit: number;
}

/** Object name: the account id. Only the Worker calls it, for accounts that it knows. */
export interface AuditApi {
  append(events: readonly AuditEvent[]): Promise<Result<null>>;
  /** Newest first. */
  list(query: AuditQuery): Promise<Result<readonly AuditRow[]>>;
}
