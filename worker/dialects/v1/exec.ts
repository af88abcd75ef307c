import { z } from "zod";
import { execAnswer } from "../../../protocol/host-api.ts";
import { execOrBackground } from "../../services/background.ts";
import { mappedUnlessPending } from "../background.ts";
import { type Endpoint, forwardedEndpoint } from "../endpoint.ts";
import { plainExec } from "../plain-exec.ts";

const execBody = z.strictObject({
  command: z.string(),
  /** Names a terminal to run in; there are none yet. */
  terminal: z.null("is not offered here: leave it out").optional(),
  timeoutMs: z.int().positive().nullish(),
  /** The SDKs drop these two; other clients need not. */
  env: z.record(z.string(), z.string()).nullish(),
  /** What the command reads, in base64. */
  stdin: z.base64().nullish(),
});

/** Commands (contract section 4.1). */
export const execEndpoints: readonly Endpoint[] = [
  forwardedEndpoint("exec", {
    method: "post",
    path: "/v1/vms/{vmId}/exec-await",
    summary: "Run a command and wait for it to end",
    body: execBody,
    isPlainBody: plainExec("terminal"),
    answer: execAnswer,
    handle: async (edge, authority, { body }) => {
      const { command, timeoutMs, env, stdin } = body;
      const answer = await execOrBackground(edge, authority, {
        command,
        timeoutMs: timeoutMs ?? null,
        env: env ?? {},
        ...(typeof stdin === "string" ? { stdin } : {}),
      });
      return mappedUnlessPending(answer, toExecAnswer);
    },
  }),
];

/** The host's answer as it is. */
export function toExecAnswer({ body }: Response): Response {
  return new Response(body, { headers: { "content-type": "application/json" } });
}
