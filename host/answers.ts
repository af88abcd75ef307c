import { FAILURES, type Failure } from "../protocol/failures.ts";

/** HTTP status of a failure between our own parts: that of its `/v5` row. */
export function failureStatus(failure: Failure): number {
  return FAILURES[failure.kind].v5[1];
}

/** A failure as an HTTP answer: the JSON `Failure` itself. */
export function failureAnswer(failure: Failure): Response {
  return Response.json(failure, { status: failureStatus(failure) });
}
