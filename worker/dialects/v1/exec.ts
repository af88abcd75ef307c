import { z } from "zod";
import { execAnswer } from "../../../protocol/host-api.ts";
import { exec } from "../../services/exec.ts";
import { type Endpoint, vmEndpoint } from "../endpoint.ts";
import { mapped } from "../translate.ts";

const execBody = z.object({
  command: z.string(),
  /** Names a terminal to run in; there are none yet. */
  terminal: z.null("is not offered here: leave it out").optional(),
  timeoutMs: z.int().positive().nullish(),
});

/** Commands (contract section 4.1). */
export const execEndpoints: readonly Endpoint[] = [
  vmEndpoint("exec", {
    method: "post",
    path: "/v1/vms/{vmId}/exec-await",
    summary: "Run a command and wait for it to end",
    body: execBody,
    answer: execAnswer,
    handle: async (edge, authority, { body }) => {
      const { command, timeoutMs } = body;
      const answer = await exec(edge, authority, { command, timeoutMs: timeoutMs ?? null, env: {} });
      return mapped(answer, ({ body: bytes }) => new Response(bytes, { headers: { "content-type": "application/json" } }));
    },
  }),
];
