import { z } from "zod";
import type { VmRecord, SnapshotRecord } from "../../durable-objects/contract.ts";
import { type Result, success } from "../../protocol/failures.ts";
import { BACKGROUND_ID_HEADER } from "../../protocol/headers.ts";
import type { Edge } from "../edge.ts";
import { type Dialect, failureAnswer, jsonAnswer } from "../http/answers.ts";
import { Pending } from "../services/background.ts";
import { pollBackground } from "../services/background-poll.ts";
import { type Endpoint, principalEndpoint } from "./endpoint.ts";
import { mapped } from "./translate.ts";

/** How a dialect shows what came of each kind of request. */
export interface Renderings {
  readonly exec: (result: Result<Response>) => Result<unknown>;
  readonly create: (edge: Edge, made: VmRecord) => Promise<Result<unknown>>;
  readonly snapshot: (taken: SnapshotRecord) => unknown;
}

/** The answer to a request that goes on in the background (contract sections 4.2 and 4.3). */
export function pendingAnswer({ requestId }: Pending): Response {
  return jsonAnswer({ requestId, status: "pending" }, 202, { [BACKGROUND_ID_HEADER]: requestId });
}

/** Translates a success of what is done; what goes on in the background is passed on. */
export function mappedUnlessPending<From, To>(result: Result<From | Pending>, translate: (value: From) => To): Result<To | Pending> {
  if (!result.ok) return result;
  return success(result.value instanceof Pending ? result.value : translate(result.value));
}

/** The endpoint that a dialect's clients poll. What it answers in the end is what the request itself would have. */
export function pollEndpoint<Path extends `${string}/{requestId}`>(path: Path, dialect: Dialect, show: Renderings): Endpoint {
  return principalEndpoint<`/{requestId}`>({
    method: "get",
    path: path as unknown as `/{requestId}`,
    summary: "Ask for the answer of a request that goes on in the background; 202 while it does",
    answer: z.unknown(),
    handle: async (edge, principal, input) => {
      const { requestId } = input.path;
      const polled = await pollBackground(edge, principal, requestId);
      if (!polled.ok || polled.value instanceof Pending) return polled;
      const { value } = polled;
      switch (value.kind) {
        case "exec":
          return success(finalAnswer(edge, dialect, requestId, show.exec(value.result)));
        case "create": {
          const { result } = value;
          const shown = result.ok ? await show.create(edge, result.value) : result;
          return success(finalAnswer(edge, dialect, requestId, shown));
        }
        case "snapshot":
          return success(finalAnswer(edge, dialect, requestId, mapped(value.result, show.snapshot)));
      }
    },
  });
}

/** The header tells a failure that is the result from one of the poll. */
function finalAnswer(edge: Edge, dialect: Dialect, requestId: string, result: Result<unknown>): Response {
  const answer = answerOf(edge, dialect, result);
  const headers = new Headers(answer.headers);
  headers.set(BACKGROUND_ID_HEADER, requestId);
  return new Response(answer.body, { status: answer.status, headers });
}

function answerOf(edge: Edge, dialect: Dialect, result: Result<unknown>): Response {
  if (!result.ok) return failureAnswer(result.failure, dialect, edge.settings);
  return result.value instanceof Response ? result.value : jsonAnswer(result.value);
}
