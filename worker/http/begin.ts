import type { MiddlewareHandler } from "hono";
import { platformRandomBytes, toHex } from "../../protocol/bytes.ts";
import { BACKGROUND_AFTER_HEADER, IDEMPOTENCY_KEY_HEADER, TRACE_HEADER, UNTOLD_REGIONS_HEADER } from "../../protocol/headers.ts";
import type { EdgeContext, EdgeEnv, EdgeHono } from "../edge.ts";
import { clientAddressOf } from "../limits/client-address.ts";
import { logEvent } from "../log.ts";
import { readSettings, type Settings } from "../settings.ts";
import { ServerTiming } from "./server-timing.ts";

let known: { readonly env: EdgeEnv; readonly settings: Settings } | undefined;

/** Begins a request: gives it a trace id, which every answer carries, and what services depend on. */
export const begin: MiddlewareHandler<EdgeHono> = async (c, next) => {
  const traceId = toHex(platformRandomBytes(16));
  const timing = new ServerTiming();
  c.set("edge", {
    env: c.env,
    settings: settingsOf(c.env),
    clock: Date.now,
    randomBytes: platformRandomBytes,
    traceId,
    clientAddress: clientAddressOf(c.req.raw, c.env.CLIENT_ADDRESS_HEADER),
    backgroundAfterS: backgroundAfter(c.req.header(BACKGROUND_AFTER_HEADER)),
    idempotencyKey: c.req.header(IDEMPOTENCY_KEY_HEADER) ?? null,
    untold: new Set(),
    timing,
    callerLeft: c.req.raw.signal,
    waitUntil: (work) => c.executionCtx.waitUntil(work),
  });
  const startedAt = Date.now();
  await next();
  if (c.var.edge.settings.LOG_REQUESTS > 0) logRequest(c, Date.now() - startedAt);
  // The answer to an upgrade carries a socket and cannot be changed.
  if (c.res.status === 101) return;
  c.res.headers.set(TRACE_HEADER, traceId);
  const { untold } = c.var.edge;
  if (untold.size > 0) c.res.headers.set(UNTOLD_REGIONS_HEADER, [...untold].join(","));
  const steps = timing.header();
  if (steps !== null && !c.var.isGuestAnswer) c.res.headers.set("server-timing", steps);
  // Answers are one caller's own, and caches know only some of the headers that say who that is.
  if (!c.var.isGuestAnswer && !c.res.headers.has("cache-control")) c.res.headers.set("cache-control", "no-store");
};

/** Of the URL only the path, and not that either where it is a guest's: queries carry tickets and links. */
function logRequest(c: EdgeContext, ms: number): void {
  const { hostname, pathname } = new URL(c.req.url);
  const path = c.var.isGuestAnswer ? null : pathname;
  logEvent("request", { traceId: c.var.edge.traceId, method: c.req.method, host: hostname, path, status: c.res.status, ms });
}

function settingsOf(env: EdgeEnv): Settings {
  if (known?.env !== env) known = { env, settings: readSettings(env) };
  return known.settings;
}

/** The header's whole seconds; null when it is absent or is no such number. */
function backgroundAfter(header: string | undefined): number | null {
  return header !== undefined && /^\d{1,6}$/.test(header) ? Number(header) : null;
}
