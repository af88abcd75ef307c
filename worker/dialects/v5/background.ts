import { answerPoll, pollResult, pollSummary, type Renderings } from "../background.ts";
import { type Endpoint, principalEndpoint } from "../endpoint.ts";
import { toExecResult } from "./exec.ts";
import { toTaken } from "./snapshots.ts";
import { showCreated } from "./vms.ts";

const RENDERINGS: Renderings = {
  exec: toExecResult,
  create: showCreated,
  snapshot: toTaken,
};

/** Requests that go on in the background (contract section 4.2). */
export const backgroundEndpoints: readonly Endpoint[] = [
  principalEndpoint({
    method: "get",
    path: "/v5/background-requests/{requestId}",
    summary: pollSummary,
    answer: pollResult,
    handle: (edge, principal, { path }) => answerPoll(edge, principal, path.requestId, "v5", RENDERINGS),
  }),
];
