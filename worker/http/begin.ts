import type { MiddlewareHandler } from "hono";
import { platformRandomBytes, toHex } from "../../protocol/bytes.ts";
import { BACKGROUND_AFTER_HEADER, IDEMPOTENCY_KEY_HEADER, TRACE_HEADER, UNTOLD_REGIONS_HEADER } from "../../protocol/headers.ts";
import type { Edge, EdgeContext, EdgeEnv, EdgeHono } from "../edge.ts";
import { clientAddressOf } from "../limits/client-address.ts";
import { logEvent } from "../log.ts";
import { readSettings, type Settings } from "../settings.ts";
import { ServerTiming } from "./server-timing.ts";
import { TimeLimits } from "./time-limits.ts";

const TRACE_BYTES = 16;
/** Random bytes for so many trace ids are drawn at once: they are no secrets, and asking the runtime costs more than using them. */
const TRACE_IDS_A_DRAW = 256;
let drawn = new Uint8Array(0);
let used = 0;

let known: { readonly env: EdgeEnv; readonly settings: Settings } | undefined;

/** Begins a request: gives it a trace id, which every answer carries, and what services depend on. */
export const begin: MiddlewareHandler<EdgeHono> = async (c, next) => {
  const traceId = newTraceId();
  const timing = new ServerTiming();
  const request = c.req.raw;
  const edge: Edge = {
    env: c.env,
    settings: settingsOf(c.env),
    clock: Date.now,
    randomBytes: platformRandomBytes,
    traceId,
    // These two are asked of the runtime only where somebody needs them.
    get clientAddress() {
      return clientAddressOf(request, c.env.CLIENT_ADDRESS_HEADER);
    },
    get callerLeft() {
      return request.signal;
    },
    backgroundAfterS: backgroundAfter(c.req.header(BACKGROUND_AFTER_HEADER)),
    idempotencyKey: c.req.header(IDEMPOTENCY_KEY_HEADER) ?? null,
    untold: new Set(),
    timing,
    timeLimits: new TimeLimits(),
    waitUntil: (work) => c.executionCtx.waitUntil(work),
  };
  c.set("edge", edge);
  const startedAt = Date.now();
  await next();
  const { status, headers } = c.res;
  if (edge.settings.LOG_REQUESTS > 0) logRequest(c, Date.now() - startedAt);
  // The answer to an upgrade carries a socket and cannot be changed.
  if (status === 101) return;
  headers.set(TRACE_HEADER, traceId);
  if (edge.untold.size > 0) headers.set(UNTOLD_REGIONS_HEADER, [...edge.untold].join(","));
  if (c.get("isGuestAnswer")) return;
  const steps = timing.header();
  if (steps !== null) headers.set("server-timing", steps);
  // Answers are one caller's own, and caches know only some of the headers that say who that is.
  if (!headers.has("cache-control")) headers.set("cache-control", "no-store");
};

function newTraceId(): string {
  if (used >= drawn.length) {
    drawn = platformRandomBytes(TRACE_BYTES * TRACE_IDS_A_DRAW);
    used = 0;
  }
  used += TRACE_BYTES;
  return toHex(drawn.subarray(used - TRACE_BYTES, used));
}

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
