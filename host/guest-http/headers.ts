import type { IncomingMessage } from "node:http";
import { GUEST_ANSWER_HEADER, GUEST_AUTHORIZATION_HEADER, TRACE_HEADER } from "../../protocol/headers.ts";
import { hopByHop } from "../../protocol/hop-by-hop.ts";

/** Headers that are between the edge and this host. A guest sees none of them, and an answer of its own cannot bring one. */
const OURS = /^postern-/;

/** Told anew to the guest, or not at all: the host itself has answered `Expect` (RFC 9110 section 10.1.1). */
const REPLACED: ReadonlySet<string> = new Set(["host", "authorization", "expect", TRACE_HEADER]);

/** A visitor's headers as the guest gets them, in the form of `IncomingMessage.rawHeaders`. The ticket is not among them. */
export function toGuest(request: IncomingMessage, trace: string): string[] {
  const { headers } = request;
  const host = headers["x-forwarded-host"];
  const out = ["host", typeof host === "string" ? host : ""];
  for (const [name, value] of endToEnd(request)) {
    if (!REPLACED.has(name)) out.push(name, value);
  }
  const authorization = headers[GUEST_AUTHORIZATION_HEADER];
  if (typeof authorization === "string") out.push("authorization", authorization);
  // The edge's length holds for what it sends; a body without one comes in chunks.
  if (headers["transfer-encoding"] !== undefined) out.push("transfer-encoding", "chunked");
  out.push(TRACE_HEADER, trace);
  return out;
}

/** A guest's headers as the edge gets them, likewise. */
export function fromGuest(answer: IncomingMessage): string[] {
  const out: string[] = [];
  for (const [name, value] of endToEnd(answer)) out.push(name, value);
  out.push(GUEST_ANSWER_HEADER, "1");
  return out;
}

/** What a WebSocket's handshake has besides (RFC 6455 section 4). */
export const SWITCHING = ["connection", "Upgrade", "upgrade", "websocket"];

function* endToEnd({ rawHeaders, headers }: IncomingMessage): Generator<readonly [name: string, value: string]> {
  const endsHere = hopByHop(headers.connection);
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] ?? "").toLowerCase();
    if (!endsHere(name) && !OURS.test(name)) yield [name, rawHeaders[index + 1] ?? ""];
  }
}

/** Whether a request has a body (RFC 9112 section 6). */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}
