import type { MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import {
  BACKGROUND_AFTER_HEADER,
  BACKGROUND_ID_HEADER,
  IDEMPOTENCY_KEY_HEADER,
  TRACE_HEADER,
  UNTOLD_REGIONS_HEADER,
} from "../../protocol/headers.ts";
import { IDENTITY_TOKEN_HEADER } from "../auth/presented.ts";
import { LINUX_USER_HEADER } from "../dialects/mount.ts";
import type { EdgeHono } from "../edge.ts";

/** Every header that a browser build of one of the SDKs may send, and ours. */
const REQUEST_HEADERS = [
  "authorization",
  "content-type",
  "range",
  "user-agent",
  IDENTITY_TOKEN_HEADER,
  LINUX_USER_HEADER,
  "x-freestyle-sdk",
  "x-freestyle-sdk-version",
  BACKGROUND_AFTER_HEADER,
  "x-freestyle-team-id",
  IDEMPOTENCY_KEY_HEADER,
];

/**
 * Lets web pages of any origin call with a credential of their own. Cookies are never used, so there is nothing that a
 * foreign page could borrow.
 */
export function openToBrowsers(): MiddlewareHandler<EdgeHono> {
  return (c, next) =>
    cors({
      origin: "*",
      allowMethods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
      allowHeaders: REQUEST_HEADERS,
      exposeHeaders: [BACKGROUND_ID_HEADER, TRACE_HEADER, UNTOLD_REGIONS_HEADER, "retry-after"],
      maxAge: c.var.edge.settings.CORS_MAX_AGE_S,
    })(c, next);
}
