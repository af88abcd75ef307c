import { z } from "zod";
import { uploadStatus } from "../../../protocol/host-api.ts";
import { beginUpload, commitUpload, continueUpload, giveUpUpload, uploadProgress } from "../../services/uploads.ts";
import { type Endpoint, forwardedEndpoint } from "../endpoint.ts";
import { mapped } from "../translate.ts";
import { absolutePath, NEW_FILE_MODE, namedUser, permissionBits, queryNumber, sha256, userQuery } from "./file-path.ts";

const UPLOADS = "/v5/vms/{vmId}/fs/uploads";
const UPLOAD = `${UPLOADS}/{uploadId}` as const;

const uploadBody = z.strictObject({
  path: absolutePath,
  size: z.int().min(0),
  sha256: sha256.nullish(),
  mode: permissionBits.nullish(),
});

/** Files of 0.2 that come in pieces (contract section 4.5). */
export const uploadEndpoints: readonly Endpoint[] = [
  forwardedEndpoint("files", {
    method: "post",
    path: UPLOADS,
    summary: "Begin a file that will come in pieces",
    query: userQuery,
    body: uploadBody,
    linuxUser: namedUser,
    answer: uploadStatus,
    handle: async (edge, authority, { body }) => {
      const { path, size, sha256: digest, mode } = body;
      return beginUpload(edge, authority, { path, size, sha256: digest ?? null, mode: mode ?? null, newMode: NEW_FILE_MODE });
    },
  }),
  forwardedEndpoint("files", {
    method: "get",
    path: UPLOAD,
    summary: "Say how far an upload has come",
    query: userQuery,
    linuxUser: namedUser,
    answer: uploadStatus,
    handle: async (edge, authority, { path }) => uploadProgress(edge, authority, path.uploadId),
  }),
  forwardedEndpoint("files", {
    method: "put",
    path: UPLOAD,
    summary: "Send a piece (bytes); what is there already is acknowledged and not written again",
    query: userQuery.extend({ offset: queryNumber }),
    linuxUser: namedUser,
    answer: uploadStatus,
    handle: async (edge, authority, { path, query, request }) =>
      continueUpload(edge, authority, path.uploadId, query.offset, request.body),
  }),
  forwardedEndpoint("files", {
    method: "post",
    path: `${UPLOAD}/commit`,
    summary: "Put a complete upload in its place",
    query: userQuery,
    linuxUser: namedUser,
    answer: z.void(),
    handle: async (edge, authority, { path }) => mapped(await commitUpload(edge, authority, path.uploadId), () => undefined),
  }),
  forwardedEndpoint("files", {
    method: "delete",
    path: UPLOAD,
    summary: "Give an upload up",
    query: userQuery,
    linuxUser: namedUser,
    answer: z.void(),
    handle: async (edge, authority, { path }) => mapped(await giveUpUpload(edge, authority, path.uploadId), () => undefined),
  }),
];
