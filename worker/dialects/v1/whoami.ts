import { z } from "zod";
import { success } from "../../../protocol/failures.ts";
import { type Endpoint, principalEndpoint } from "../endpoint.ts";

/** Who a credential is (contract section 2.1). */
export const whoamiEndpoints: readonly Endpoint[] = [
  principalEndpoint({
    method: "get",
    path: "/auth/v1/whoami",
    summary: "Show who the credential is",
    answer: z.object({ accountId: z.string(), identityId: z.string().optional() }),
    handle: async (_edge, principal) =>
      success({
        accountId: principal.accountId,
        ...(principal.kind === "identity" ? { identityId: principal.identityId } : {}),
      }),
  }),
];
