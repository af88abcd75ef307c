import { FAILURES, type Failure, type FailureKind } from "../../protocol/failures.ts";
import type { Settings } from "../settings.ts";

/** Which column of the failure table an answer uses. */
export type Dialect = "v1" | "v5";

const SOON: ReadonlySet<FailureKind> = new Set([
  "authority-unavailable",
  "host-unavailable",
  "host-down",
  "host-draining",
  "host-disk-full",
  "stale-authority",
  "no-capacity",
  "vm-busy",
  "rate-limited",
]);

/** A JSON answer. */
export function jsonAnswer(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return Response.json(value, { status, headers });
}

/**
 * A failure as every client reads it: `code` and `message` for the SDKs, `error` and `description` for what older ones
 * show, then the details. 401 says which scheme is wanted (RFC 9110 section 11.6.1); passing troubles say when to return.
 */
export function failureAnswer(failed: Failure, dialect: Dialect, settings: Settings): Response {
  const [code, status] = FAILURES[failed.kind][dialect];
  const { message } = failed;
  const body = { ...failed.details, code, message, error: code, description: message };
  return jsonAnswer(body, status, failureHeaders(failed, status, settings));
}

/** A failure in our own words, for hosts and forwarders; its status is that of the `/v5` row. */
export function serviceFailureAnswer(failed: Failure, settings: Settings): Response {
  const status = FAILURES[failed.kind].v5[1];
  return jsonAnswer(failed, status, failureHeaders(failed, status, settings));
}

function failureHeaders({ kind, details }: Failure, status: number, settings: Settings): Record<string, string> {
  const headers: Record<string, string> = {};
  if (status === 401) headers["www-authenticate"] = "Bearer";
  // RFC 9110 section 15.5.17: how much there is.
  if (kind === "range-not-satisfiable") headers["content-range"] = `bytes */${details?.size ?? 0}`;
  if (SOON.has(kind)) headers["retry-after"] = String(settings.RETRY_AFTER_S);
  return headers;
}
