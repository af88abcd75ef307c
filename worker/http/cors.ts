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

const EXPOSED_HEADERS = [BACKGROUND_ID_HEADER, TRACE_HEADER, UNTOLD_REGIONS_HEADER, "retry-after"];
const EXPOSED = EXPOSED_HEADERS.join(",");

/**
 * Lets web pages of any origin call with a credential of their own. Cookies are never used, so there is nothing that a
 * foreign page could borrow.
 */
export const openToBrowsers: MiddlewareHandler<EdgeHono> = async (c, next) => {
  if (c.req.method === "OPTIONS") return answerPreflight(c, next);
  await next();
  // The answer to an upgrade carries a socket and cannot be changed.
  if (c.res.status === 101) return;
  // Hono's own would make an answer before there is one, and then copy what comes: as dear as all of authorising.
  c.res.headers.set("access-control-allow-origin", "*");
  c.res.headers.set("access-control-expose-headers", EXPOSED);
};

const answerPreflight: MiddlewareHandler<EdgeHono> = (c, next) =>
  cors({
    origin: "*",
    allowMethods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
    allowHeaders: REQUEST_HEADERS,
    exposeHeaders: EXPOSED_HEADERS,
    maxAge: c.get("edge").settings.CORS_MAX_AGE_S,
  })(c, next);
