import { z } from "zod";
import { type Result, success } from "../../../protocol/failures.ts";
import { execAnswer } from "../../../protocol/host-api.ts";
import { IMAGE_USER } from "../../../protocol/linux-user.ts";
import { execOrBackground, Pending } from "../../services/background.ts";
import { type Endpoint, forwardedEndpoint } from "../endpoint.ts";
import { plainExec } from "../plain-exec.ts";

const execBody = z.strictObject({
  command: z.string(),
  /** Absent: the account with the uid 1000 if the guest has one, else root. */
  linuxUser: z.string().nullish(),
  timeoutMs: z.int().positive().nullish(),
  env: z.record(z.string(), z.string()).nullish(),
  /** What the command reads, in base64. */
  stdin: z.base64().nullish(),
});

/** Commands (contract section 4.1). */
export const execEndpoints: readonly Endpoint[] = [
  forwardedEndpoint("exec", {
    method: "post",
    path: "/v5/vms/{vmId}/exec-await",
    summary: "Run a command and wait for it to end; a null statusCode says that its time was up",
    body: execBody,
    isPlainBody: plainExec("linuxUser"),
    linuxUser: ({ body }) => body.linuxUser ?? null,
    unnamedUser: IMAGE_USER,
    answer: execAnswer,
    handle: async (edge, authority, { body }) => {
      const { command, timeoutMs, env, stdin } = body;
      const answer = await execOrBackground(edge, authority, {
        command,
        timeoutMs: timeoutMs ?? edge.settings.EXEC_V5_TIMEOUT_MS,
        env: env ?? {},
        ...(typeof stdin === "string" ? { stdin } : {}),
      });
      if (!answer.ok) return toExecResult(answer);
      return answer.value instanceof Pending ? answer : toExecResult(success(answer.value));
    },
  }),
];

/** What came of a command, as 0.2 reads it. */
export function toExecResult(answer: Result<Response>): Result<unknown> {
  if (!answer.ok) return timedOut(answer);
  return success(new Response(answer.value.body, { headers: { "content-type": "application/json" } }));
}

/** To 0.2 a time-out is an answer: what the command wrote until then, and no status. */
function timedOut(refused: Result<never>): Result<unknown> {
  if (refused.ok || refused.failure.kind !== "exec-timed-out") return refused;
  const { stdout, stderr } = refused.failure.details ?? {};
  return success({ stdout: text(stdout), stderr: text(stderr), statusCode: null });
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
