import type { Result } from "../../protocol/failures.ts";
import { type UploadRequest, type UploadStatus, uploadStatus } from "../../protocol/host-api.ts";
import type { Edge } from "../edge.ts";
import type { HostCall } from "../hosts/fetch-host.ts";
import { forward } from "../hosts/forward.ts";
import type { Authority } from "./authorise.ts";
import { checkPath, finished, readAnswer } from "./files.ts";

/** Begins a file that will come in pieces. */
export async function beginUpload(edge: Edge, authority: Authority, request: UploadRequest): Promise<Result<UploadStatus>> {
  const checked = checkPath(request.path);
  if (!checked.ok) return checked;
  const body = { type: "application/json", content: JSON.stringify(request) };
  return answered(edge, await call(edge, authority, "POST", "", { body }));
}

export async function uploadProgress(edge: Edge, authority: Authority, uploadId: string): Promise<Result<UploadStatus>> {
  return answered(edge, await call(edge, authority, "GET", idPath(uploadId)));
}

/** Passes a piece on as it comes. `offset`: where in the file it belongs, in bytes. */
export async function continueUpload(
  edge: Edge,
  authority: Authority,
  uploadId: string,
  offset: number,
  content: ReadableStream<Uint8Array> | null,
): Promise<Result<UploadStatus>> {
  const body = { type: "application/octet-stream", content: content ?? new Uint8Array(0) };
  return answered(edge, await call(edge, authority, "PUT", `${idPath(uploadId)}?offset=${offset}`, { body }));
}

/** Puts a complete upload in its place. */
export async function commitUpload(edge: Edge, authority: Authority, uploadId: string): Promise<Result<null>> {
  return finished(await call(edge, authority, "POST", `${idPath(uploadId)}/commit`));
}

export async function giveUpUpload(edge: Edge, authority: Authority, uploadId: string): Promise<Result<null>> {
  return finished(await call(edge, authority, "DELETE", idPath(uploadId)));
}

function idPath(uploadId: string): string {
  return `/${encodeURIComponent(uploadId)}`;
}

function call(
  edge: Edge,
  authority: Authority,
  method: HostCall["method"],
  route: string,
  rest: Pick<HostCall, "body"> = {},
): Promise<Result<Response>> {
  return forward(edge, authority, { method, path: `/vms/${authority.verdict.vmId}/uploads${route}`, ...rest });
}

async function answered(edge: Edge, answer: Result<Response>): Promise<Result<UploadStatus>> {
  return answer.ok ? readAnswer(edge, answer.value, uploadStatus) : answer;
}
