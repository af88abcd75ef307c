import { type Failure, failure, isFailure, type Result, success } from "../../protocol/failures.ts";
import { TRACE_HEADER } from "../../protocol/headers.ts";
import type { Edge } from "../edge.ts";
import { logEvent } from "../log.ts";

/** One call to a host: a route of `protocol/host-api.ts`. A body must be replayable, since a call may be made twice. */
export interface HostCall {
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  /** Path and query below the host's base URL. */
  readonly path: string;
  readonly body?: { readonly type: string; readonly content: string | Uint8Array<ArrayBuffer> };
}

const HOST_UNAVAILABLE = failure("host-unavailable", "The machine that runs this VM cannot be reached. Try again in a moment.");

/** Longest failure body that is read from a host, in bytes of text; a timed-out exec reports its output so far. */
const MAX_FAILURE_LENGTH = 64 * 1024 * 1024;

/**
 * Sends a call to a host with its ticket and answers the host's response, whose body streams. Whatever keeps a host from
 * answering is `host-unavailable`; what the host refuses arrives as its own failure.
 */
export async function fetchHost(edge: Edge, hostUrl: string, ticket: string, call: HostCall): Promise<Result<Response>> {
  const headers = new Headers({ authorization: `Bearer ${ticket}`, [TRACE_HEADER]: edge.traceId });
  if (call.body !== undefined) headers.set("content-type", call.body.type);
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), edge.settings.HOST_TIMEOUT_MS);
  try {
    const response = await fetch(`${hostUrl.replace(/\/+$/, "")}${call.path}`, {
      method: call.method,
      headers,
      body: call.body?.content ?? null,
      redirect: "manual",
      signal: patience.signal,
    });
    return response.ok ? success(response) : { ok: false, failure: await readFailure(edge, response) };
  } catch (error) {
    logEvent("host-unavailable", { traceId: edge.traceId, reason: error instanceof Error ? error.name : "unknown" });
    return HOST_UNAVAILABLE;
  } finally {
    clearTimeout(timer);
  }
}

async function readFailure(edge: Edge, response: Response): Promise<Failure> {
  const text = await response.text();
  const body: unknown = text.length > MAX_FAILURE_LENGTH ? null : parse(text);
  if (isFailure(body)) return body;
  logEvent("host-answer-unreadable", { traceId: edge.traceId, status: response.status });
  return HOST_UNAVAILABLE.failure;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
