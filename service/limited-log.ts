import type { Log, LogFields } from "./log.ts";

const WINDOW_MS = 1_000;

/**
 * A log, its children with it, that writes at most `linesPerSecond`: for what strangers can have written as often as they like. The first
 * line after some that were left out says how many, as `leftOut`. `now`: milliseconds that never go back.
 */
export function limitLines(log: Log, linesPerSecond: number, now: () => number): Log {
  let since = Number.NEGATIVE_INFINITY;
  let written = 0;
  let leftOut = 0;
  const mayWrite = (): boolean => {
    if (now() - since >= WINDOW_MS) {
      since = now();
      written = 0;
    }
    if (written < linesPerSecond) written += 1;
    else {
      leftOut += 1;
      return false;
    }
    return true;
  };
  const limit = (inner: Log): Log => {
    const emit =
      (level: "info" | "warn" | "error") =>
      (message: string, fields: LogFields = {}) => {
        if (!mayWrite()) return;
        inner[level](message, leftOut === 0 ? fields : { ...fields, leftOut });
        leftOut = 0;
      };
    return { info: emit("info"), warn: emit("warn"), error: emit("error"), child: (fields) => limit(inner.child(fields)) };
  };
  return limit(log);
}
