import { failure, type Result, success } from "../../protocol/failures.ts";
import { FILE_KIND_HEADER } from "../../protocol/headers.ts";
import { type DirectoryListing, directoryListing } from "../../protocol/host-api.ts";
import type { Edge } from "../edge.ts";
import { forward } from "../hosts/forward.ts";
import { logEvent } from "../log.ts";
import type { Authority } from "./authorise.ts";

/** What is at a path: a file's bytes as a stream, or what a directory holds. */
export type Entry =
  | { readonly kind: "file"; readonly bytes: ReadableStream<Uint8Array> }
  | { readonly kind: "directory"; readonly listing: DirectoryListing };

/** Longest path, in UTF-16 units: Linux's PATH_MAX. */
const MAX_PATH_LENGTH = 4096;

/** Reads a file or a directory as the verdict's Linux user. */
export async function readEntry(edge: Edge, authority: Authority, path: string): Promise<Result<Entry>> {
  const checked = checkPath(path);
  if (!checked.ok) return checked;
  const answer = await forward(edge, authority, { method: "GET", path: filesPath(authority, path) });
  if (!answer.ok) return answer;
  const kind = answer.value.headers.get(FILE_KIND_HEADER);
  if (kind === "file") return success({ kind, bytes: answer.value.body ?? emptyStream() });
  const listing = kind === "directory" ? directoryListing.safeParse(await answer.value.json()) : null;
  if (listing?.success) return success({ kind: "directory", listing: listing.data });
  logEvent("host-answer-unreadable", { traceId: edge.traceId, status: answer.value.status });
  return failure("host-unavailable", "The machine that runs this VM gave an answer that cannot be read.");
}

/** Writes a file as the verdict's Linux user. */
export async function writeFile(
  edge: Edge,
  authority: Authority,
  path: string,
  content: Uint8Array<ArrayBuffer>,
): Promise<Result<null>> {
  const checked = checkPath(path);
  if (!checked.ok) return checked;
  const { MAX_FILE_WRITE_BYTES: maxBytes } = edge.settings;
  if (content.byteLength > maxBytes) {
    return failure("payload-too-large", `A file written in one request holds at most ${maxBytes} bytes.`, { maxBytes });
  }
  const answer = await forward(edge, authority, {
    method: "PUT",
    path: filesPath(authority, path),
    body: { type: "application/octet-stream", content },
  });
  if (!answer.ok) return answer;
  await answer.value.body?.cancel();
  return success(null);
}

function checkPath(path: string): Result<null> {
  if (path === "" || path.length > MAX_PATH_LENGTH || path.includes("\0")) {
    return failure("file-bad-request", `A path has 1 to ${MAX_PATH_LENGTH} characters and no NUL.`);
  }
  return success(null);
}

function filesPath(authority: Authority, path: string): string {
  return `/vms/${authority.verdict.vmId}/files?path=${encodeURIComponent(path)}`;
}

function emptyStream(): ReadableStream<Uint8Array> {
  return new Response("").body ?? new ReadableStream({ start: (controller) => controller.close() });
}
