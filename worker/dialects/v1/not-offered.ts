import { z } from "zod";
import { failure } from "../../../protocol/failures.ts";
import { accountEndpoint, type Endpoint, type Method, principalEndpoint } from "../endpoint.ts";

const VM = "/v1/vms/{vmId}";

/** What 0.1 can call and only an API key will ever be allowed. */
const OF_ACCOUNTS: readonly (readonly [Method, string])[] = [
  ["post", `${VM}/optimize`],
  ["get", `${VM}/build`],
  ["get", "/v1/vms/builds/{buildId}"],
  ["get", "/v1/vms/builds/{buildId}/phases"],
];

/** What 0.1 can call inside a VM. */
const IN_VMS: readonly (readonly [Method, string])[] = [["get", `${VM}/stats/stream`]];

const refusal = {
  summary: "Not offered yet",
  answer: z.never(),
  handle: async () => failure("unsupported", "This is not offered here yet."),
};

/** The rest of what the 0.1 SDKs can call: refused with a code that they know, to callers that are let in. */
export const notOfferedEndpoints: readonly Endpoint[] = [
  ...OF_ACCOUNTS.map(([method, path]) => accountEndpoint({ method, path, ...refusal })),
  ...IN_VMS.map(([method, path]) => principalEndpoint({ method, path, ...refusal })),
];
