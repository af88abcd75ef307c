import type { BackgroundRecord, BackgroundTask } from "../../durable-objects/background-contract.ts";
import type { SnapshotRecord, Verdict } from "../../durable-objects/contract.ts";
import type { VmRecord } from "../../durable-objects/vm-contract.ts";
import { isFailure, type Result, success } from "../../protocol/failures.ts";
import { JOB_STATE_HEADER } from "../../protocol/headers.ts";
import type { ExecRequest } from "../../protocol/host-api.ts";
import { newBackgroundId } from "../../protocol/ids.ts";
import { accountSubject } from "../../protocol/subjects.ts";
import type { Edge } from "../edge.ts";
import { readHostJson } from "../hosts/fetch-host.ts";
import { forward } from "../hosts/forward.ts";
import { backgroundRequestObject, tell } from "../objects.ts";
import type { Authority } from "./authorise.ts";
import { checkExec, exec } from "./exec.ts";

/** The answer to a request that goes on in the background: come back for the result under this id. */
export class Pending {
  readonly requestId: string;
  readonly vmId: string;

  constructor(requestId: string, vmId: string) {
    this.requestId = requestId;
    this.vmId = vmId;
  }
}

/** What a task makes. */
type Made<Task extends BackgroundTask> = Task extends { readonly kind: "create" } ? VmRecord : SnapshotRecord;

/** How long the caller waits for the answer itself, in milliseconds; null: for as long as it takes, since it does not poll. */
export function inlineWaitMs({ backgroundAfterS, settings }: Edge): number | null {
  const most = settings.BACKGROUND_MAX_WAIT_S;
  return backgroundAfterS === null || most === 0 ? null : Math.min(backgroundAfterS, most) * 1000;
}

/** Runs a command as `exec` does, or goes on with it as a job on the host when the caller would rather poll. */
export async function execOrBackground(
  edge: Edge,
  authority: Authority,
  request: ExecRequest,
): Promise<Result<Response | Pending>> {
  const waitMs = inlineWaitMs(edge);
  if (waitMs === null) return exec(edge, authority, request);
  const checked = checkExec(edge, request);
  if (!checked.ok) return checked;
  const { verdict } = authority;
  const requestId = newBackgroundId(edge.randomBytes);
  const answer = await forward(edge, authority, {
    method: "PUT",
    path: `${jobPath(verdict.vmId, requestId)}?waitMs=${waitMs}`,
    body: { type: "application/json", content: JSON.stringify(request) },
  });
  const job = answer.ok ? await jobResult(edge, answer.value) : answer;
  if (job !== null) return job;
  const begun = await begin(edge, requestId, execRecord(edge, verdict), null);
  return begun.ok ? success(new Pending(requestId, verdict.vmId)) : begun;
}

/** Lets a task of an account be done by an object of its own, and waits for as long as the caller does. */
export async function taskOrBackground<Task extends BackgroundTask>(
  edge: Edge,
  accountId: string,
  vmId: string,
  task: Task,
  waitMs: number,
): Promise<Result<Made<Task> | Pending>> {
  const requestId = newBackgroundId(edge.randomBytes);
  const subject = accountSubject(accountId);
  const expiresAt = expiry(edge);
  const record = { kind: task.kind, subject, accountId, vmId, linuxUser: null, expiresAt, trace: edge.traceId };
  const begun = await begin(edge, requestId, record, task);
  if (!begun.ok) return begun;
  const ended = await tell(() => backgroundRequestObject(edge.env, requestId).ended(waitMs));
  // What cannot be waited for now can be asked for later.
  if (!ended.ok || ended.value === null) return success(new Pending(requestId, vmId));
  // The object answers about the task that it was given.
  return ended.value.result as Result<Made<Task>>;
}

/** Path of a job below its host. */
export function jobPath(vmId: string, requestId: string): string {
  return `/vms/${vmId}/jobs/${requestId}`;
}

/** What came of a job: the host's `ExecAnswer`, or how it failed; null while it runs. */
export async function jobResult(edge: Edge, answer: Response): Promise<Result<Response> | null> {
  const state = answer.headers.get(JOB_STATE_HEADER);
  if (state === "done") return success(answer);
  const body = await readHostJson(edge, answer);
  if (state === "running") return null;
  if (state === "failed" && body.ok && isFailure(body.value)) return { ok: false, failure: body.value };
  throw new Error("a host's answer about a job has no known state");
}

function begin(edge: Edge, requestId: string, record: BackgroundRecord, task: BackgroundTask | null): Promise<Result<null>> {
  return tell(() => backgroundRequestObject(edge.env, requestId).begin(record, task));
}

function execRecord(edge: Edge, { subject, accountId, vmId, linuxUser }: Verdict): BackgroundRecord {
  return { kind: "exec", subject, accountId, vmId, linuxUser, expiresAt: expiry(edge), trace: edge.traceId };
}

/** No request runs for longer than a host may take to answer; then its result is kept. */
function expiry(edge: Edge): number {
  const { HOST_TIMEOUT_MS: longest, BACKGROUND_KEEP_MS: keepMs } = edge.settings;
  return edge.clock() + longest + keepMs;
}
