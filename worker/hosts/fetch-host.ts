import { type Failure, failure, isFailure, type Result, success } from "../../protocol/failures.ts";
import { TRACE_HEADER } from "../../protocol/headers.ts";
import type { Edge } from "../edge.ts";
import { parseJson, readBody } from "../http/body.ts";
import { logEvent } from "../log.ts";
import { noteRefusal } from "../tickets/signer.ts";

/**
 * Bytes that pass through as they come, and so can be sent once only. The runtime carries them past our code, which would cost
 * twenty times the processor; that they do not stall, the host sees to.
 */
type StreamedBody = ReadableStream<Uint8Array>;

/** One call to a host: a route of `protocol/host-api.ts`. */
export interface HostCall {
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  /** Path and query below the host's base URL. */
  readonly path: string;
  /** Asks for a WebSocket; the answer's status is then 101. */
  readonly upgrade?: boolean;
  /** `Range` of a read. */
  readonly range?: string;
  readonly body?: { readonly type: string; readonly content: string | Uint8Array<ArrayBuffer> | StreamedBody };
}

export const HOST_UNAVAILABLE = failure(
  "host-unavailable",
  "The machine that runs this VM cannot be reached. Try again in a moment.",
);

/**
 * Sends a call to a host with its ticket and answers the host's response, whose body streams. Whatever keeps a host from
 * answering is `host-unavailable`; what the host refuses arrives as its own failure.
 */
export async function fetchHost(edge: Edge, hostUrl: string, ticket: string, call: HostCall): Promise<Result<Response>> {
  const headers: Record<string, string> = { authorization: `Bearer ${ticket}`, [TRACE_HEADER]: edge.traceId };
  if (call.body !== undefined) headers["content-type"] = call.body.type;
  if (call.range !== undefined) headers.range = call.range;
  if (call.upgrade === true) headers.upgrade = "websocket";
  const content = call.body?.content ?? null;
  const { HOST_TIMEOUT_MS, UPLOAD_TIMEOUT_MS } = edge.settings;
  const limitMs = isStreamed(content) ? UPLOAD_TIMEOUT_MS : HOST_TIMEOUT_MS;
  try {
    const answer = fetch(`${hostUrl.endsWith("/") ? hostUrl.replace(/\/+$/, "") : hostUrl}${call.path}`, {
      method: call.method,
      headers,
      body: content,
      redirect: "manual",
    });
    // A call that takes too long is not aborted, which would cost every call a controller: it ends with the request, soon after.
    const response = await edge.timeLimits.within(limitMs, answer);
    if (response === null) return unavailable(edge, hostUrl, "TimeoutError");
    const done = call.upgrade === true ? response.webSocket !== null : response.ok;
    if (done) return success(response);
    const refused = await readFailure(edge, response);
    noteRefusal(refused, ticket);
    return { ok: false, failure: refused };
  } catch (error) {
    return unavailable(edge, hostUrl, error instanceof Error ? error.name : "unknown");
  }
}

function unavailable({ traceId }: Edge, hostUrl: string, reason: string): Result<never> {
  logEvent("host-unavailable", { traceId, hostUrl, reason });
  return HOST_UNAVAILABLE;
}

/** Whether a call's body passes through, so that the call can be made once only. */
export function isStreamed(content: unknown): content is StreamedBody {
  return content instanceof ReadableStream;
}

/** A host's refusal, in its own words. */
export async function readFailure(edge: Edge, response: Response): Promise<Failure> {
  const body = await readHostJson(edge, response);
  if (body.ok && isFailure(body.value)) return body.value;
  logEvent("host-answer-unreadable", { traceId: edge.traceId, status: response.status });
  return HOST_UNAVAILABLE.failure;
}

/** Reads a host's answer whole, as JSON, up to the limit of the settings. */
export async function readHostJson(edge: Edge, response: Response): Promise<Result<unknown>> {
  const { MAX_HOST_ANSWER_BYTES: maxBytes, HOST_TIMEOUT_MS: limitMs } = edge.settings;
  const declared = response.headers.get("content-length");
  const limits = { declared, maxBytes, idleMs: limitMs, totalMs: limitMs, timeLimits: edge.timeLimits };
  const bytes = await readBody(response, limits);
  if (!bytes.ok) return bytes.failure.kind === "payload-too-large" ? bytes : HOST_UNAVAILABLE;
  return parseJson(bytes.value);
}
