import { failure, type Result, success } from "../../protocol/failures.ts";
import type { ExecRequest } from "../../protocol/host-api.ts";
import type { Edge } from "../edge.ts";
import { forward } from "../hosts/forward.ts";
import { base64Bytes } from "../http/base64.ts";
import type { Authority } from "./authorise.ts";

/** Refuses what no host is asked for. */
export function checkExec(edge: Edge, request: ExecRequest): Result<null> {
  const { EXEC_MAX_TIMEOUT_MS: maxTimeoutMs, EXEC_MAX_STDIN_BYTES: maxBytes } = edge.settings;
  if (request.timeoutMs !== null && request.timeoutMs > maxTimeoutMs) {
    return failure("bad-request", `timeoutMs is at most ${maxTimeoutMs}.`, { maxTimeoutMs });
  }
  if (base64Bytes(request.stdin ?? "") > maxBytes) {
    return failure("payload-too-large", `stdin: is larger than ${maxBytes} bytes.`, { maxBytes });
  }
  return success(null);
}

/** Runs a command in the VM as the verdict's Linux user. The answer's body is an `ExecAnswer` in JSON. */
export async function exec(edge: Edge, authority: Authority, request: ExecRequest): Promise<Result<Response>> {
  const checked = checkExec(edge, request);
  if (!checked.ok) return checked;
  return forward(edge, authority, {
    method: "POST",
    path: `/vms/${authority.verdict.vmId}/exec`,
    body: { type: "application/json", content: JSON.stringify(request) },
  });
}
