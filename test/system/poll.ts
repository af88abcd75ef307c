import { setTimeout as pause } from "node:timers/promises";

/** Wait between two probes, in milliseconds. */
const PROBE_INTERVAL_MS = 50;

/**
 * Probes until there is a value (anything but `undefined`) and answers it. Throws after `deadlineMs` with `what` and the
 * last thing the probe threw, so that a probe may simply fail while the time has not come.
 */
export async function until<T>(what: string, deadlineMs: number, probe: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const end = Date.now() + deadlineMs;
  let last: unknown;
  do {
    try {
      const value = await probe();
      if (value !== undefined) return value;
    } catch (error) {
      last = error;
    }
    await pause(PROBE_INTERVAL_MS);
  } while (Date.now() < end);
  throw new Error(`not within ${deadlineMs} ms: ${what}`, { cause: last });
}
