import type { Verdict } from "../../durable-objects/contract.ts";
import type { Result } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { locate } from "../services/authorise.ts";

/**
 * The host's answer, or `host-down` as soon as the host is known to be: a machine that vanished refuses no connection, and what the
 * edge knows of a place may be older than that. The call itself is left to its own time limit.
 */
export async function unlessDown(edge: Edge, verdict: Verdict, answer: Promise<Result<Response>>): Promise<Result<Response>> {
  const watch = new AbortController();
  try {
    return await Promise.race([answer, whenDown(edge, verdict, watch.signal)]);
  } finally {
    watch.abort();
  }
}

/** Settles only when the host is down. Nobody waits for it once `stop` has aborted. */
async function whenDown(edge: Edge, verdict: Verdict, stop: AbortSignal): Promise<Result<Response>> {
  for (;;) {
    await pause(edge.settings.HOST_DOWN_CHECK_MS, stop);
    const place = await locate(edge, verdict);
    if (!place.ok && place.failure.kind === "host-down") return place;
  }
}

/** Never settles after `stop` has aborted. */
function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    stop.addEventListener("abort", () => clearTimeout(timer), { once: true });
  });
}
