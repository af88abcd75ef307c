import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { FAILURES, type Failure } from "../protocol/failures.ts";
import { TRACE_HEADER } from "../protocol/headers.ts";

/** HTTP status of a failure between our own parts: that of its `/v5` row. */
export function failureStatus(failure: Failure): number {
  return FAILURES[failure.kind].v5[1];
}

/** A failure as an HTTP answer: the JSON `Failure` itself. */
export function failureAnswer(failure: Failure): Response {
  return Response.json(failure, { status: failureStatus(failure) });
}

/** A failure as the answer to a request that Node handed over with its socket (`CONNECT`, an upgrade); closes the socket. */
export function refuseOnSocket(socket: Socket, refusal: Failure, trace: string): void {
  const body = JSON.stringify(refusal);
  const status = failureStatus(refusal);
  socket.end(
    [
      `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Error"}`,
      "content-type: application/json",
      `content-length: ${Buffer.byteLength(body)}`,
      `${TRACE_HEADER}: ${trace}`,
      "connection: close",
      "",
      body,
    ].join("\r\n"),
  );
}
