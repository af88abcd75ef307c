import type { Hono } from "hono";
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
import type { Edge, EdgeHono } from "../edge.ts";

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

/** The dialects, which browsers may call. */
const DIALECTS = ["v1", "identity/v1", "auth/v1", "observability/v1", "v5"];
const IN_A_DIALECT = new RegExp(`^/(?:${DIALECTS.join("|")})(?:/|$)`);

/**
 * Lets web pages of any origin read an answer of a dialect that they called with a credential of their own. Cookies are never used,
 * so there is nothing that a foreign page could borrow.
 */
export function openToBrowsers({ url, head }: Edge, answer: Response): Response {
  // A page's browser always says which page it is (Fetch standard, "CORS request"); others have no use for these headers.
  if (head.get("origin") === null || !IN_A_DIALECT.test(url.pathname)) return answer;
  // The answer to an upgrade carries a socket and cannot be changed.
  if (answer.status === 101) return answer;
  answer.headers.set("access-control-allow-origin", "*");
  answer.headers.set("access-control-expose-headers", EXPOSED);
  return answer;
}

/** Whether a request is what a browser asks before it lets a page call. */
export function isPreflight({ url }: Edge, request: Request): boolean {
  return request.method === "OPTIONS" && IN_A_DIALECT.test(url.pathname);
}

/** Answers what a browser asks before it lets a page call. */
export function answerPreflights(api: Hono<EdgeHono>): void {
  for (const dialect of DIALECTS) {
    api.options(`/${dialect}/*`, (c, next) =>
      cors({
        origin: "*",
        allowMethods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
        allowHeaders: REQUEST_HEADERS,
        exposeHeaders: EXPOSED_HEADERS,
        maxAge: c.env.settings.CORS_MAX_AGE_S,
      })(c, next),
    );
  }
}
