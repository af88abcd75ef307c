import type { ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import type { Log } from "../service/log.ts";
import type { FileRead } from "./files.ts";

type OpenFile = Extract<FileRead, { kind: "file" }>;

/**
 * Streams a file as the answer. When reading fails half-way the connection is cut, since the status has been sent: the
 * other side sees a broken answer, never a short file that looks whole.
 */
export async function sendFile(
  response: ServerResponse,
  { size, content }: OpenFile,
  headers: Readonly<Record<string, string>>,
  log: Log,
): Promise<void> {
  response.writeHead(200, {
    ...headers,
    "content-type": "application/octet-stream",
    ...(size === null ? {} : { "content-length": size }),
  });
  try {
    await pipeline(content, response);
  } catch (error) {
    log.warn("file answer broke off", { error: error instanceof Error ? error.message : String(error) });
    response.destroy();
  }
}
