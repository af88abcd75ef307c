import { randomUUID } from "node:crypto";

/** The trace id that a request brought, if it is fit for a log and a header, or a new one. */
export function traceOf(header: string | string[] | undefined): string {
  return typeof header === "string" && /^[\w.:-]{1,128}$/.test(header) ? header : randomUUID();
}
