import { z } from "zod";
import { success } from "../../../protocol/failures.ts";
import type { FileStatus } from "../../../protocol/host-api.ts";
import { fileExists, fileStatusAt, listDirectory, makeDirectory, readFile, removeFile, streamFile } from "../../services/files.ts";
import { type Endpoint, forwardedEndpoint } from "../endpoint.ts";
import { isoTime, mapped } from "../translate.ts";
import { absolutePath, NEW_FILE_MODE, namedUser, pathQuery, permissionBits, queryNumber, sha256, userQuery } from "./file-path.ts";

const FS = "/v5/vms/{vmId}/fs";

/** Of the host's answer to a read, what the client is to see. */
const READ_HEADERS = ["content-type", "content-length", "content-range", "accept-ranges"];

const stat = z.object({
  size: z.int(),
  isFile: z.boolean(),
  isDirectory: z.boolean(),
  isSymlink: z.boolean(),
  permissions: z.string(),
  owner: z.string(),
  group: z.string(),
  modified: z.string(),
});

/** Files of 0.2 (contract section 4.5). */
export const fileEndpoints: readonly Endpoint[] = [
  forwardedEndpoint("files", {
    method: "get",
    path: `${FS}/read`,
    summary: "Read a file, or with Range a part of it (bytes)",
    query: pathQuery,
    linuxUser: namedUser,
    answer: z.string(),
    handle: async (edge, authority, { query, request }) => {
      const { headers } = request;
      // RFC 9110 section 13.1.5: nothing here names a version of a file, so the condition never holds.
      const range = headers.has("if-range") ? null : headers.get("range");
      return mapped(await readFile(edge, authority, query.path, range), fileAnswer);
    },
  }),
  forwardedEndpoint("files", {
    method: "put",
    path: `${FS}/write`,
    summary: "Write a file (bytes) in one step; its directories are made",
    query: pathQuery.extend({ mode: queryNumber.pipe(permissionBits).optional(), sha256: sha256.optional() }),
    linuxUser: namedUser,
    answer: z.void(),
    handle: async (edge, authority, { query, request }) => {
      const wish = { mode: query.mode ?? null, newMode: NEW_FILE_MODE, sha256: query.sha256 ?? null };
      return mapped(await streamFile(edge, authority, query.path, wish, request.body), () => undefined);
    },
  }),
  forwardedEndpoint("files", {
    method: "delete",
    path: `${FS}/remove`,
    summary: "Remove a file, or a directory with all that is in it",
    query: pathQuery,
    linuxUser: namedUser,
    answer: z.void(),
    handle: async (edge, authority, { query }) => mapped(await removeFile(edge, authority, query.path), () => undefined),
  }),
  forwardedEndpoint("files", {
    method: "post",
    path: `${FS}/mkdir`,
    summary: "Make a directory and its parents",
    query: userQuery,
    body: z.strictObject({ path: absolutePath }),
    linuxUser: namedUser,
    answer: z.void(),
    handle: async (edge, authority, { body }) => mapped(await makeDirectory(edge, authority, body.path), () => undefined),
  }),
  forwardedEndpoint("files", {
    method: "get",
    path: `${FS}/exists`,
    summary: "Say whether a path leads to something",
    query: pathQuery,
    linuxUser: namedUser,
    answer: z.object({ exists: z.boolean() }),
    handle: async (edge, authority, { query }) => mapped(await fileExists(edge, authority, query.path), (exists) => ({ exists })),
  }),
  forwardedEndpoint("files", {
    method: "get",
    path: `${FS}/stat`,
    summary: "Describe what a path leads to",
    query: pathQuery,
    linuxUser: namedUser,
    answer: stat,
    handle: async (edge, authority, { query }) => mapped(await fileStatusAt(edge, authority, query.path), toStat),
  }),
  forwardedEndpoint("files", {
    method: "get",
    path: `${FS}/dir`,
    summary: "List a directory",
    query: pathQuery,
    linuxUser: namedUser,
    answer: z.object({ entries: z.array(z.object({ name: z.string(), kind: z.enum(["file", "directory", "symlink"]) })) }),
    handle: async (edge, authority, { query }) => {
      const listing = await listDirectory(edge, authority, query.path);
      return listing.ok ? success({ entries: listing.value.files }) : listing;
    },
  }),
];

function fileAnswer({ status, headers, body }: Response): Response {
  const kept = READ_HEADERS.flatMap((name) => {
    const value = headers.get(name);
    return value === null ? [] : [[name, value] as [string, string]];
  });
  return new Response(body, { status, headers: kept });
}

function toStat({ kind, isSymlink, size, mode, owner, group, modifiedAt }: FileStatus): z.output<typeof stat> {
  return {
    size,
    isFile: kind === "file",
    isDirectory: kind === "directory",
    isSymlink,
    permissions: mode.toString(8).padStart(4, "0"),
    owner,
    group,
    modified: isoTime(modifiedAt),
  };
}
