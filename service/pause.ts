import { setTimeout as sleep } from "node:timers/promises";

/** Resolves after so many milliseconds, or at once when the signal aborts. */
export async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  // The only rejection there is says that the signal aborted, which callers look at themselves.
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}
