import type { ZodType } from "zod";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { FILE_KIND_HEADER } from "../../protocol/headers.ts";
import { type DirectoryListing, directoryListing, type FileStatus, type FileWish, fileStatus } from "../../protocol/host-api.ts";
import type { Edge } from "../edge.ts";
import { type HostCall, readHostJson } from "../hosts/fetch-host.ts";
import { forward } from "../hosts/forward.ts";
import { logEvent } from "../log.ts";
import type { Authority } from "./authorise.ts";

/** What is at a path: a file's bytes as a stream, or what a directory holds. */
export type Entry =
  | { readonly kind: "file"; readonly bytes: ReadableStream<Uint8Array> }
  | { readonly kind: "directory"; readonly listing: DirectoryListing };

/** Longest path, in UTF-16 units: Linux's PATH_MAX. */
const MAX_PATH_LENGTH = 4096;
const BYTES_TYPE = "application/octet-stream";

/** Reads a file or a directory as the verdict's Linux user. */
export async function readEntry(edge: Edge, authority: Authority, path: string): Promise<Result<Entry>> {
  const answer = await callFiles(edge, authority, "GET", "", { path });
  if (!answer.ok) return answer;
  if (answer.value.headers.get(FILE_KIND_HEADER) === "file") {
    return success({ kind: "file", bytes: answer.value.body ?? emptyStream() });
  }
  const listing = await readAnswer(edge, answer.value, directoryListing);
  return listing.ok ? success({ kind: "directory", listing: listing.value }) : listing;
}

/** A file's bytes as the host sends them: 200, or 206 with `Content-Range` for the part that `range` (a header) asks for. */
export async function readFile(edge: Edge, authority: Authority, path: string, range: string | null): Promise<Result<Response>> {
  return callFiles(edge, authority, "GET", "", { path, kind: "file" }, range === null ? {} : { range });
}

export async function listDirectory(edge: Edge, authority: Authority, path: string): Promise<Result<DirectoryListing>> {
  const answer = await callFiles(edge, authority, "GET", "", { path, kind: "directory" });
  return answer.ok ? readAnswer(edge, answer.value, directoryListing) : answer;
}

/** Writes a file that the edge holds whole. */
export async function writeFile(
  edge: Edge,
  authority: Authority,
  path: string,
  content: Uint8Array<ArrayBuffer>,
): Promise<Result<null>> {
  const { MAX_FILE_WRITE_BYTES: maxBytes } = edge.settings;
  if (content.byteLength > maxBytes) {
    return failure("payload-too-large", `A file written in one request holds at most ${maxBytes} bytes.`, { maxBytes });
  }
  return finished(await callFiles(edge, authority, "PUT", "", { path }, { body: { type: BYTES_TYPE, content } }));
}

/** Writes a file whose bytes pass through as they come. */
export async function streamFile(
  edge: Edge,
  authority: Authority,
  path: string,
  { mode, newMode, sha256 }: FileWish,
  content: ReadableStream<Uint8Array> | null,
): Promise<Result<null>> {
  const body = { type: BYTES_TYPE, content: content ?? new Uint8Array(0) };
  return finished(await callFiles(edge, authority, "PUT", "", { path, mode, newMode, sha256 }, { body }));
}

export async function fileStatusAt(edge: Edge, authority: Authority, path: string): Promise<Result<FileStatus>> {
  const answer = await callFiles(edge, authority, "GET", "/status", { path });
  return answer.ok ? readAnswer(edge, answer.value, fileStatus) : answer;
}

/** Whether a path leads to something, as `test -e` sees it: a link that leads nowhere does not. */
export async function fileExists(edge: Edge, authority: Authority, path: string): Promise<Result<boolean>> {
  const status = await fileStatusAt(edge, authority, path);
  if (status.ok) return success(status.value.kind !== "symlink");
  return status.failure.kind === "file-not-found" ? success(false) : status;
}

/** Makes a directory and its parents; one that is there is success. */
export async function makeDirectory(edge: Edge, authority: Authority, path: string): Promise<Result<null>> {
  return finished(await callFiles(edge, authority, "POST", "/directory", { path }));
}

/** Removes a file, or a directory with all that is in it. */
export async function removeFile(edge: Edge, authority: Authority, path: string): Promise<Result<null>> {
  return finished(await callFiles(edge, authority, "DELETE", "", { path }));
}

/** Changes in a directory and all below it, one JSON document a line, until the reader goes away; null: the user's home. */
export async function watchFiles(edge: Edge, authority: Authority, path: string | null): Promise<Result<Response>> {
  if (path !== null) return callFiles(edge, authority, "POST", "/watch", { path });
  return forward(edge, authority, { method: "POST", path: `/vms/${authority.verdict.vmId}/files/watch` });
}

/** Refuses what cannot be a path, so that no VM is woken for it. */
export function checkPath(path: string): Result<null> {
  if (path === "" || path.length > MAX_PATH_LENGTH || path.includes("\0") || !path.isWellFormed()) {
    return failure("file-bad-request", `A path has 1 to ${MAX_PATH_LENGTH} characters and no NUL.`);
  }
  return success(null);
}

/** Reads a host's JSON answer that must have a shape. */
export async function readAnswer<T>(edge: Edge, response: Response, schema: ZodType<T>): Promise<Result<T>> {
  const body = await readHostJson(edge, response);
  const read = body.ok ? schema.safeParse(body.value) : null;
  if (read?.success) return success(read.data);
  logEvent("host-answer-unreadable", { traceId: edge.traceId, status: response.status });
  return failure("host-unavailable", "The machine that runs this VM gave an answer that cannot be read.");
}

/** Of an answer that says nothing but that it is done. */
export async function finished(answer: Result<Response>): Promise<Result<null>> {
  if (!answer.ok) return answer;
  await answer.value.body?.cancel();
  return success(null);
}

/** Query values of a call; null ones are left out. */
type FileQuery = { readonly path: string } & Readonly<Record<string, string | number | null>>;

async function callFiles(
  edge: Edge,
  authority: Authority,
  method: HostCall["method"],
  route: "" | "/status" | "/directory" | "/watch",
  query: FileQuery,
  rest: Pick<HostCall, "range" | "body"> = {},
): Promise<Result<Response>> {
  const checked = checkPath(query.path);
  if (!checked.ok) return checked;
  const values = Object.entries(query).filter(([, value]) => value !== null);
  const text = values.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join("&");
  return forward(edge, authority, { method, path: `/vms/${authority.verdict.vmId}/files${route}?${text}`, ...rest });
}

function emptyStream(): ReadableStream<Uint8Array> {
  return new Response("").body ?? new ReadableStream({ start: (controller) => controller.close() });
}
