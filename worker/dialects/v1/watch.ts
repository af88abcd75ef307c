import { z } from "zod";
import { fileEvent } from "../../../protocol/host-api.ts";
import { watchFiles } from "../../services/files.ts";
import { type Endpoint, forwardedEndpoint } from "../endpoint.ts";
import { mapped } from "../translate.ts";

/** Changes of files as they happen (contract section 4.4). The SDK names no directory, which means the user's home. */
export const watchEndpoints: readonly Endpoint[] = [
  forwardedEndpoint("files", {
    method: "post",
    path: "/v1/vms/{vmId}/watch-files",
    summary: "Watch a directory and all below it; one JSON document a line (application/x-ndjson)",
    query: z.object({ path: z.string().optional() }),
    answer: fileEvent,
    handle: async (edge, authority, { query }) =>
      mapped(
        await watchFiles(edge, authority, query.path ?? null),
        ({ body }) => new Response(body, { headers: { "content-type": "application/x-ndjson" } }),
      ),
  }),
];
