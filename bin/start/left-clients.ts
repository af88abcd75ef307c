import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { messageOf } from "../../service/message-of.ts";

/** The kernel's name for a connection whose peer has said that it sends no more (RFC 9293 section 3.3.2), in /proc/net/tcp. */
const CLOSE_WAIT = "08";

/** Whether a client of a port has left while its connection is still open; `table` is the text of /proc/net/tcp. */
export function hasLeftClients(table: string, port: number): boolean {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return table.split("\n").some((row) => {
    const [, at = "", , state] = row.trim().split(/\s+/);
    return state === CLOSE_WAIT && at.endsWith(local);
  });
}

/**
 * Ends connections to a port whose client has left, every `intervalMs`. workerd notices that only when it next writes, so a
 * command would run on for a client that is long gone; Cloudflare's own front, like nginx, takes a client's FIN for leaving. A
 * connection that the kernel ends is seen at once, and the request on it is cancelled. Needs root and `ss` of iproute2.
 */
export function endLeftConnections(port: number, intervalMs: number, onError: (text: string) => void): void {
  let isLooking = false;
  const look = async () => {
    if (!hasLeftClients(await readFile("/proc/net/tcp", "utf8"), port)) return;
    await promisify(execFile)("ss", [
      "--kill",
      "--no-header",
      "--numeric",
      "--tcp",
      "state",
      "close-wait",
      "sport",
      "=",
      `:${port}`,
    ]);
  };
  const timer = setInterval(() => {
    if (isLooking) return;
    isLooking = true;
    look()
      .catch((error: unknown) => {
        clearInterval(timer);
        onError(messageOf(error));
      })
      .finally(() => {
        isLooking = false;
      });
  }, intervalMs);
  timer.unref();
}
