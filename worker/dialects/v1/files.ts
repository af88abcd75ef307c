import { z } from "zod";
import { failure, type Result, success } from "../../../protocol/failures.ts";
import { base64Envelope, decodeBase64 } from "../../http/base64.ts";
import { type Entry, readEntry, writeFile } from "../../services/files.ts";
import { type Endpoint, forwardedEndpoint } from "../endpoint.ts";
import { mapped, nothing } from "../translate.ts";

const PATH = "/v1/vms/{vmId}/files/{path}";

const fileBody = z.strictObject({ content: z.string(), encoding: z.enum(["utf-8", "utf8", "base64"]).nullish() });

/** Room in a request body for everything but the content of the file. */
const ENVELOPE_BYTES = 4096;

/** Files and directories; the whole path is one segment (contract sections 1.4 and 4.4). */
export const fileEndpoints: readonly Endpoint[] = [
  forwardedEndpoint("files", {
    method: "get",
    path: PATH,
    summary: "Read a file, or list a directory",
    answer: z.union([
      z.object({ content: z.string(), encoding: z.literal("base64") }),
      z.object({ files: z.array(z.object({ name: z.string(), kind: z.enum(["file", "directory"]) })) }),
    ]),
    handle: async (edge, authority, { path }) => mapped(await readEntry(edge, authority, path.path), toAnswer),
  }),
  forwardedEndpoint("files", {
    method: "put",
    path: PATH,
    summary: "Write a file",
    body: fileBody,
    invalidBody: "file-bad-request",
    // Base64 takes four characters for three bytes; JSON may escape text, so the content gets twice its size.
    maxBodyBytes: (settings) => settings.MAX_FILE_WRITE_BYTES * 2 + ENVELOPE_BYTES,
    answer: nothing,
    handle: async (edge, authority, { path, body }) => {
      const content = decode(body);
      return content.ok ? mapped(await writeFile(edge, authority, path.path, content.value), () => ({})) : content;
    },
  }),
];

/** 0.1 knows files and directories only, so everything that is not a directory is a file. */
function toAnswer(entry: Entry): unknown {
  if (entry.kind === "directory") {
    const files = entry.listing.files.map(({ name, kind }) => ({ name, kind: kind === "directory" ? kind : "file" }));
    return { files };
  }
  const envelope = base64Envelope('{"content":"', '","encoding":"base64"}');
  return new Response(entry.bytes.pipeThrough(envelope), { headers: { "content-type": "application/json" } });
}

function decode({ content, encoding }: z.output<typeof fileBody>): Result<Uint8Array<ArrayBuffer>> {
  if (encoding !== "base64") return success(new TextEncoder().encode(content) as Uint8Array<ArrayBuffer>);
  const bytes = decodeBase64(content);
  return bytes === null ? failure("file-bad-request", "content: is not base64.") : success(bytes);
}
