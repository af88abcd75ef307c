import { z } from "zod";
import { failure } from "../../../protocol/failures.ts";
import { accountEndpoint, type Endpoint, type Method } from "../endpoint.ts";

/** What 0.2 can call about VMs with an API key and is not offered. */
const ROUTES: readonly (readonly [Method, string])[] = [
  ["post", "/v5/firewall/rules"],
  ["get", "/v5/firewall/rules/{ruleId}"],
  ["delete", "/v5/firewall/rules/{ruleId}"],
  ["post", "/v5/firewall/evaluate"],
];

/** Refused in so many words, since a 404 would read as if the VM or rule were gone. */
export const notOfferedEndpoints: readonly Endpoint[] = ROUTES.map(([method, path]) =>
  accountEndpoint({
    method,
    path,
    summary: "Not offered yet",
    answer: z.never(),
    handle: async () => failure("unsupported", "This is not offered here yet."),
  }),
);
