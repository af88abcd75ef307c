import type { MiddlewareHandler } from "hono";
import { failure } from "../../protocol/failures.ts";
import type { EdgeContext, EdgeHono } from "../edge.ts";
import { failureAnswer } from "./answers.ts";
import { dialectOf } from "./fallbacks.ts";

/** Refuses a request whose URL and headers are larger than the settings allow, before anything looks at them. */
export const limitHead: MiddlewareHandler<EdgeHono> = async (c, next) => refuseHead(c) ?? next();

/** The refusal of such a request; null when it may go on. */
export function refuseHead(c: EdgeContext): Response | null {
  const { settings } = c.get("edge");
  const maxBytes = settings.MAX_REQUEST_HEAD_BYTES;
  let length = c.req.url.length;
  for (const [name, value] of c.req.raw.headers) length += name.length + value.length;
  if (length <= maxBytes) return null;
  const refused = failure("request-head-too-large", `URL and headers have more than ${maxBytes} characters.`, { maxBytes });
  return failureAnswer(refused.failure, dialectOf(c), settings);
}
