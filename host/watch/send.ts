import type { ServerResponse } from "node:http";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { LiveSessions } from "../../service/live-sessions.ts";
import type { Admission } from "../gate.ts";

export interface Watcher {
  readonly admission: Admission;
  readonly live: LiveSessions | null;
  /** Told of everything that is sent but empty lines. */
  readonly onEvent: () => void;
}

/**
 * Streams a watch's events as the answer until either side ends it. The watch is a live session: once its caller's access is
 * gone it is cut.
 */
export async function sendEvents(
  response: ServerResponse,
  events: Readable,
  headers: Readonly<Record<string, string>>,
  { admission, live, onEvent }: Watcher,
): Promise<void> {
  const { claims, linuxUser: user } = admission;
  const forget = live?.add({ claims: { ...claims, user, op: "files" }, end: () => response.destroy() });
  response.writeHead(200, { ...headers, "content-type": "application/x-ndjson" });
  events.on("data", (chunk: Buffer) => {
    if (chunk.length > 1) onEvent();
  });
  try {
    await pipeline(events, response);
  } catch {
    // Whoever listened went away, or was sent away.
    response.destroy();
  } finally {
    forget?.();
  }
}
