import type { ZodType } from "zod";
import { failure, type Result, success } from "../../protocol/failures.ts";
import {
  type ServiceAction,
  type ServiceActionAnswer,
  type ServiceList,
  type ServiceLogs,
  type ServiceLogsQuery,
  type ServiceStatus,
  type ServiceUnit,
  serviceActionAnswer,
  serviceList,
  serviceLogs,
  serviceStatus,
} from "../../protocol/host-api.ts";
import type { Edge } from "../edge.ts";
import { type HostCall, readHostJson } from "../hosts/fetch-host.ts";
import { forward } from "../hosts/forward.ts";
import { logEvent } from "../log.ts";
import type { Authority } from "./authorise.ts";

/** The guest's systemd services, as the verdict's Linux user. */
export async function listServices(edge: Edge, authority: Authority): Promise<Result<ServiceList>> {
  return answerOf(edge, serviceList, await ask(edge, authority, "GET", ""));
}

export async function createService(edge: Edge, authority: Authority, unit: ServiceUnit): Promise<Result<null>> {
  return emptied(await ask(edge, authority, "POST", "", unit));
}

export async function deleteService(edge: Edge, authority: Authority, name: string): Promise<Result<null>> {
  return emptied(await ask(edge, authority, "DELETE", `/${encodeURIComponent(name)}`));
}

export async function readService(edge: Edge, authority: Authority, name: string): Promise<Result<ServiceStatus>> {
  return answerOf(edge, serviceStatus, await ask(edge, authority, "GET", `/${encodeURIComponent(name)}`));
}

export async function readServiceLogs(
  edge: Edge,
  authority: Authority,
  name: string,
  { lines, since }: ServiceLogsQuery,
): Promise<Result<ServiceLogs>> {
  const query = new URLSearchParams({ lines: String(lines), ...(since === undefined ? {} : { since }) });
  return answerOf(edge, serviceLogs, await ask(edge, authority, "GET", `/${encodeURIComponent(name)}/logs?${query}`));
}

/** Starts, stops or restarts services; what became of each is in the answer. */
export async function actOnServices(edge: Edge, authority: Authority, action: ServiceAction): Promise<Result<ServiceActionAnswer>> {
  return answerOf(edge, serviceActionAnswer, await ask(edge, authority, "POST", "/act", action));
}

function ask(
  edge: Edge,
  authority: Authority,
  method: HostCall["method"],
  suffix: string,
  body?: object,
): Promise<Result<Response>> {
  return forward(edge, authority, {
    method,
    path: `/vms/${authority.verdict.vmId}/services${suffix}`,
    ...(body === undefined ? {} : { body: { type: "application/json", content: JSON.stringify(body) } }),
  });
}

async function answerOf<T>(edge: Edge, schema: ZodType<T>, answer: Result<Response>): Promise<Result<T>> {
  if (!answer.ok) return answer;
  const json = await readHostJson(edge, answer.value);
  if (!json.ok) return json;
  const read = schema.safeParse(json.value);
  if (read.success) return success(read.data);
  logEvent("host-answer-unreadable", { traceId: edge.traceId, status: answer.value.status });
  return failure("host-unavailable", "The machine that runs this VM gave an answer that cannot be read.");
}

async function emptied(answer: Result<Response>): Promise<Result<null>> {
  if (!answer.ok) return answer;
  await answer.value.body?.cancel();
  return success(null);
}
