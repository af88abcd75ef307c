type Row = { readonly v1: readonly [code: string, status: number]; readonly v5: readonly [code: string, status: number] };

/**
 * Every way a request can fail, with its code and HTTP status in each dialect. `/v1` codes come from the 0.1.46 list
 * (`EXEC_TIMED_OUT` and `*SESSION*`, which only 0.1.63 knows, are the exceptions: no older code says it). `docs/errors.md` has a row each.
 */
export const FAILURES = {
  "credential-missing": { v1: ["UNAUTHORIZED_ERROR", 401], v5: ["MISSING_CREDENTIALS", 401] },
  "credential-invalid": { v1: ["UNAUTHORIZED_ERROR", 401], v5: ["INVALID_API_KEY", 401] },
  forbidden: { v1: ["FORBIDDEN", 403], v5: ["FORBIDDEN", 403] },
  "account-suspended": { v1: ["FORBIDDEN", 403], v5: ["ACCOUNT_SUSPENDED", 403] },
  "linux-user-forbidden": { v1: ["VM_ACCESS_DENIED", 403], v5: ["FORBIDDEN", 403] },
  "bad-request": { v1: ["BAD_REQUEST", 400], v5: ["BAD_REQUEST", 400] },
  "payload-too-large": { v1: ["INVALID_REQUEST", 413], v5: ["PAYLOAD_TOO_LARGE", 413] },
  "request-head-too-large": { v1: ["INVALID_REQUEST", 431], v5: ["REQUEST_HEADER_FIELDS_TOO_LARGE", 431] },
  "request-timed-out": { v1: ["INVALID_REQUEST", 408], v5: ["REQUEST_TIMEOUT", 408] },
  "rate-limited": { v1: ["LIMIT_EXCEEDED", 429], v5: ["RATE_LIMITED", 429] },
  "route-not-found": { v1: ["NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "method-not-allowed": { v1: ["NOT_FOUND", 405], v5: ["METHOD_NOT_ALLOWED", 405] },
  "vm-not-found": { v1: ["VM_NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "vm-id-invalid": { v1: ["INVALID_VM_ID", 400], v5: ["BAD_REQUEST", 400] },
  "identity-not-found": { v1: ["IDENTITY_NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "token-not-found": { v1: ["NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "grant-not-found": { v1: ["VM_PERMISSION_NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "grant-exists": { v1: ["PERMISSION_ALREADY_EXISTS", 409], v5: ["CONFLICT", 409] },
  "identity-managed": { v1: ["CANNOT_DELETE_MANAGED_IDENTITY", 403], v5: ["BAD_REQUEST", 400] },
  conflict: { v1: ["CONFLICT", 409], v5: ["CONFLICT", 409] },
  "quota-exceeded": { v1: ["LIMIT_EXCEEDED", 403], v5: ["LIMIT_EXCEEDED", 403] },
  "vm-quota-exceeded": { v1: ["VM_LIMIT_EXCEEDED", 403], v5: ["LIMIT_EXCEEDED", 403] },
  "linux-user-not-found": { v1: ["USER_NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "linux-user-duplicate": { v1: ["DUPLICATE_USER_NAME", 400], v5: ["BAD_REQUEST", 400] },
  "linux-user-exists": { v1: ["USER_ALREADY_EXISTS", 409], v5: ["CONFLICT", 409] },
  "vm-create-bad-request": { v1: ["CREATE_VM_BAD_REQUEST", 400], v5: ["BAD_REQUEST", 400] },
  "vm-setup-failed": { v1: ["VM_SETUP_FAILED", 500], v5: ["VM_SETUP_FAILED", 500] },
  "vm-not-running": { v1: ["VM_NOT_RUNNING", 400], v5: ["CONFLICT", 409] },
  "vm-busy": { v1: ["CONFLICT", 409], v5: ["CONFLICT", 409] },
  "vm-start-failed": { v1: ["VM_EXIT_DURING_START", 500], v5: ["VM_START_FAILED", 500] },
  "vm-start-timeout": { v1: ["VM_START_TIMEOUT", 504], v5: ["VM_START_TIMEOUT", 504] },
  "resize-bad-request": { v1: ["BAD_REQUEST", 400], v5: ["BAD_REQUEST", 400] },
  "resize-failed": { v1: ["RESIZE_FAILED", 500], v5: ["RESIZE_FAILED", 500] },
  "snapshot-not-found": { v1: ["SNAPSHOT_NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "snapshot-bad-request": { v1: ["CREATE_SNAPSHOT_BAD_REQUEST", 400], v5: ["BAD_REQUEST", 400] },
  "snapshot-not-ready": { v1: ["CONFLICT", 409], v5: ["CONFLICT", 409] },
  "snapshot-failed": { v1: ["SNAPSHOT_SETUP_FAILED", 500], v5: ["SNAPSHOT_FAILED", 500] },
  "snapshot-quota-exceeded": { v1: ["SNAPSHOT_LIMIT_EXCEEDED", 403], v5: ["LIMIT_EXCEEDED", 403] },
  "service-not-found": { v1: ["SERVICE_NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "service-exists": { v1: ["SERVICE_ALREADY_EXISTS", 409], v5: ["CONFLICT", 409] },
  "service-name-invalid": { v1: ["SERVICE_NAME_INVALID_CHARS", 400], v5: ["BAD_REQUEST", 400] },
  "exec-timed-out": { v1: ["EXEC_TIMED_OUT", 408], v5: ["EXEC_TIMED_OUT", 408] },
  "exec-output-too-large": { v1: ["INVALID_REQUEST", 413], v5: ["PAYLOAD_TOO_LARGE", 413] },
  "file-not-found": { v1: ["FILE_NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "file-access-denied": { v1: ["ACCESS_DENIED", 403], v5: ["FORBIDDEN", 403] },
  "file-bad-request": { v1: ["FILES_BAD_REQUEST", 400], v5: ["BAD_REQUEST", 400] },
  "range-not-satisfiable": { v1: ["BAD_REQUEST", 416], v5: ["RANGE_NOT_SATISFIABLE", 416] },
  "upload-not-found": { v1: ["NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "session-id-invalid": { v1: ["INVALID_SESSION_ID", 400], v5: ["BAD_REQUEST", 400] },
  "session-user-mismatch": { v1: ["SESSION_USER_MISMATCH", 403], v5: ["NOT_FOUND", 404] },
  "session-not-found": { v1: ["SESSION_NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "session-exists": { v1: ["SESSION_ALREADY_EXISTS", 409], v5: ["CONFLICT", 409] },
  "session-expired": { v1: ["SESSION_EXPIRED", 410], v5: ["NOT_FOUND", 404] },
  "session-cap-reached": { v1: ["SESSION_CAP_REACHED", 429], v5: ["LIMIT_EXCEEDED", 429] },
  "terminal-not-found": { v1: ["NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  "background-request-not-found": { v1: ["NOT_FOUND", 404], v5: ["NOT_FOUND", 404] },
  unsupported: { v1: ["BAD_REQUEST", 400], v5: ["BAD_REQUEST", 400] },
  "no-capacity": { v1: ["UNAVAILABLE", 503], v5: ["UNAVAILABLE", 503] },
  "host-unavailable": { v1: ["UNAVAILABLE", 503], v5: ["UNAVAILABLE", 503] },
  "guest-unreachable": { v1: ["UNAVAILABLE", 502], v5: ["BAD_GATEWAY", 502] },
  "guest-timed-out": { v1: ["UNAVAILABLE", 504], v5: ["GATEWAY_TIMEOUT", 504] },
  "host-down": { v1: ["UNAVAILABLE", 503], v5: ["HOST_DOWN", 503] },
  "vm-disk-full": { v1: ["FILES_BAD_REQUEST", 507], v5: ["VM_DISK_FULL", 507] },
  "host-draining": { v1: ["UNAVAILABLE", 503], v5: ["HOST_DRAINING", 503] },
  "host-disk-full": { v1: ["UNAVAILABLE", 503], v5: ["HOST_DISK_FULL", 503] },
  "authority-unavailable": { v1: ["SERVICE_UNAVAILABLE", 503], v5: ["SERVICE_UNAVAILABLE", 503] },
  "stale-epoch": { v1: ["UNAUTHORIZED_ERROR", 401], v5: ["STALE_EPOCH", 401] },
  "stale-authority": { v1: ["SERVICE_UNAVAILABLE", 503], v5: ["STALE_AUTHORITY", 503] },
  "service-key-refused": { v1: ["UNAUTHORIZED_ERROR", 401], v5: ["SERVICE_KEY_REFUSED", 401] },
  "ticket-refused": { v1: ["UNAUTHORIZED_ERROR", 401], v5: ["TICKET_REFUSED", 401] },
  internal: { v1: ["INTERNAL_ERROR", 500], v5: ["INTERNAL_ERROR", 500] },
} as const satisfies Record<string, Row>;

export type FailureKind = keyof typeof FAILURES;

/** Extra camel-case members of an error body, such as `allowedUsers` or `path`. Never a secret. */
export type FailureDetails = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

/**
 * A refusal or failure in the services' words. Crosses RPC and HTTP between our parts as plain data; a dialect turns it
 * into a body. `message` is for the person who called: what was wrong and what to do, without a secret.
 */
export interface Failure {
  readonly kind: FailureKind;
  readonly message: string;
  readonly details?: FailureDetails;
}

/** The result of a service: a value, or why there is none. */
export type Result<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly failure: Failure };

export function success<T>(value: T): { readonly ok: true; readonly value: T } {
  return { ok: true, value };
}

export function failure(
  kind: FailureKind,
  message: string,
  details?: FailureDetails,
): { readonly ok: false; readonly failure: Failure } {
  return { ok: false, failure: details === undefined ? { kind, message } : { kind, message, details } };
}

/** Whether a value read from the wire is a failure that this build knows. */
export function isFailure(value: unknown): value is Failure {
  if (typeof value !== "object" || value === null) return false;
  const { kind, message } = value as { kind?: unknown; message?: unknown };
  return typeof kind === "string" && Object.hasOwn(FAILURES, kind) && typeof message === "string";
}
