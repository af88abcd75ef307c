import type { Hono } from "hono";
import { type Result, success } from "../protocol/failures.ts";
import { ACTED_AS_HEADER, JOB_STATE_HEADER } from "../protocol/headers.ts";
import { execRequest, jobWait } from "../protocol/host-api.ts";
import { failureAnswer } from "./answers.ts";
import type { Exec } from "./exec.ts";
import type { Admission } from "./gate.ts";
import type { IdleWatch } from "./idle.ts";
import type { JobOwner, JobState, Jobs } from "./jobs.ts";
import type { Machines } from "./machines.ts";
import { type HostContext, type HostEnv, type RouteTools, readJson, readQuery } from "./routing.ts";

export interface JobParts {
  readonly machines: Machines;
  readonly exec: Exec;
  readonly jobs: Jobs;
  readonly idle: IdleWatch;
}

/** Routes of commands that go on in the background, as the table in `protocol/host-api.ts` has them. */
export function mountJobs(app: Hono<HostEnv>, { guarded, jsonLimit }: RouteTools, parts: JobParts): void {
  const { machines, exec, jobs, idle } = parts;
  app.put(
    "/vms/:vm/jobs/:id",
    jsonLimit,
    guarded("exec", async (context, vmId, admission) => {
      const machine = machines.find(vmId);
      if (!machine.ok) return failureAnswer(machine.failure);
      const request = await readJson(context, execRequest);
      if (!request.ok) return failureAnswer(request.failure);
      const wait = readQuery(context, jobWait);
      if (!wait.ok) return failureAnswer(wait.failure);
      let actedAs: string | null = null;
      const work = async () => {
        const end = idle.begin(vmId);
        try {
          return await exec.run(machine.value, admission.linuxUser, request.value, new AbortController().signal, (user) => {
            actedAs = user;
          });
        } finally {
          end();
        }
      };
      const state = await jobs.run(idOf(context), ownerOf(vmId, admission), wait.value.waitMs, work);
      if (actedAs !== null) context.header(ACTED_AS_HEADER, actedAs);
      return answer(context, state);
    }),
  );
  app.get(
    "/vms/:vm/jobs/:id",
    guarded("exec", async (context, vmId, admission) => answer(context, await jobs.look(idOf(context), ownerOf(vmId, admission)))),
  );
}

function idOf(context: HostContext): string {
  return context.req.param("id") ?? "";
}

function ownerOf(vmId: string, { claims, linuxUser }: Admission): JobOwner {
  return { vmId, linuxUser, subject: claims.sub };
}

/** A job's own failure is an answer too: the header tells it from a failure of the request. */
function answer(context: HostContext, looked: Result<JobState>): Response {
  if (!looked.ok) return failureAnswer(looked.failure);
  const { value } = looked;
  const ended = value.kind === "ended" ? value.result : success({});
  const state = value.kind === "running" ? "running" : ended.ok ? "done" : "failed";
  context.header(JOB_STATE_HEADER, state);
  return context.json(ended.ok ? ended.value : ended.failure);
}
