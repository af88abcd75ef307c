import { z } from "zod";
import type { SnapshotRecord } from "../../durable-objects/contract.ts";
import type { VmRecord } from "../../durable-objects/vm-contract.ts";
import { type Result, success } from "../../protocol/failures.ts";
import { BACKGROUND_ID_HEADER } from "../../protocol/headers.ts";
import type { Principal } from "../auth/principal.ts";
import type { Edge } from "../edge.ts";
import { type Dialect, failureAnswer, jsonAnswer } from "../http/answers.ts";
import { Pending } from "../services/background.ts";
import { type Polled, pollBackground } from "../services/background-poll.ts";
import { mapped } from "./translate.ts";

export const pollSummary = "Ask for the answer of a request that goes on in the background; 202 while it does";

/** What a poll answers is what the request would have. */
export const pollResult = z.unknown();

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
export function mappedUnlessPending<From, To>(
  result: Result<From | Pending>,
  translate: (value: From) => To,
): Result<To | Pending> {
  if (!result.ok) return result;
  return success(result.value instanceof Pending ? result.value : translate(result.value));
}

/** Answers a poll. In the end that is what the request itself would have answered. */
export async function answerPoll(
  edge: Edge,
  principal: Principal,
  requestId: string,
  dialect: Dialect,
  show: Renderings,
): Promise<Result<Response | Pending>> {
  const polled = await pollBackground(edge, principal, requestId);
  if (!polled.ok) return polled;
  if (polled.value instanceof Pending) return success(polled.value);
  return success(finalAnswer(edge, dialect, requestId, await shown(edge, polled.value, show)));
}

async function shown(edge: Edge, ended: Exclude<Polled, Pending>, show: Renderings): Promise<Result<unknown>> {
  switch (ended.kind) {
    case "exec":
      return show.exec(ended.result);
    case "create":
      return ended.result.ok ? show.create(edge, ended.result.value) : ended.result;
    case "snapshot":
      return mapped(ended.result, show.snapshot);
  }
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
