import type { ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import type { Log } from "../service/log.ts";
import { messageOf } from "../service/message-of.ts";
import { contentRange } from "./byte-range.ts";
import type { OpenedFile } from "./files.ts";

type OpenFile = Extract<OpenedFile, { kind: "file" }>;

/**
 * Streams a file, or the part of it that was asked for, as the answer. When reading fails half-way the connection is cut,
 * since the status has been sent: the other side sees a broken answer, never a short file that looks whole.
 */
export async function sendFile(
  response: ServerResponse,
  file: OpenFile,
  headers: Readonly<Record<string, string>>,
  log: Log,
): Promise<void> {
  response.writeHead(file.range === null ? 200 : 206, {
    ...headers,
    "content-type": "application/octet-stream",
    ...(file.size === null ? {} : { "accept-ranges": "bytes", ...lengthHeaders(file.size, file.range) }),
  });
  try {
    await pipeline(file.content, response);
  } catch (error) {
    log.warn("file answer broke off", { error: messageOf(error) });
    response.destroy();
  }
}

function lengthHeaders(size: number, range: OpenFile["range"]): Record<string, string | number> {
  if (range === null) return { "content-length": size };
  return { "content-length": range.end - range.start + 1, "content-range": contentRange(range, size) };
}
