import { z } from "zod";
import { failure, success } from "../../../protocol/failures.ts";
import { answerPoll, pollResult, pollSummary, type Renderings } from "../background.ts";
import { type Endpoint, principalEndpoint } from "../endpoint.ts";
import { emptyList, mapped } from "../translate.ts";
import { toExecAnswer } from "./exec.ts";
import { toTaken } from "./snapshots.ts";
import { toCreated } from "./vms.ts";

const RENDERINGS: Renderings = {
  exec: (result) => mapped(result, toExecAnswer),
  create: async (edge, vm) => success(toCreated(edge, vm)),
  snapshot: toTaken,
};

/** Requests that go on in the background (contract section 4.3). */
export const backgroundEndpoints: readonly Endpoint[] = [
  principalEndpoint({
    method: "get",
    path: "/auth/v1/background-requests/{requestId}",
    summary: pollSummary,
    answer: pollResult,
    handle: (edge, principal, { path }) => answerPoll(edge, principal, path.requestId, "v1", RENDERINGS),
  }),
  principalEndpoint({
    method: "get",
    path: "/observability/v1/logs",
    summary: "What is logged about a request that goes on in the background: nothing, here",
    query: z.object({ requestId: z.string().optional() }),
    answer: z.object({ logs: emptyList }),
    handle: async (_edge, _principal, { query }) =>
      query.requestId === undefined
        ? failure("unsupported", "Logs of VMs are not kept here: ask with the requestId of a request.")
        : success({ logs: [] }),
  }),
];
