import type { MiddlewareHandler } from "hono";
import { platformRandomBytes, toHex } from "../../protocol/bytes.ts";
import { TRACE_HEADER } from "../../protocol/headers.ts";
import type { EdgeEnv, EdgeHono } from "../edge.ts";
import { readSettings, type Settings } from "../settings.ts";

let known: { readonly env: EdgeEnv; readonly settings: Settings } | undefined;

/** Begins a request: gives it a trace id, which every answer carries, and what services depend on. */
export const begin: MiddlewareHandler<EdgeHono> = async (c, next) => {
  const traceId = toHex(platformRandomBytes(16));
  c.set("edge", {
    env: c.env,
    settings: settingsOf(c.env),
    clock: Date.now,
    randomBytes: platformRandomBytes,
    traceId,
  });
  await next();
  // The answer to an upgrade carries a socket and cannot be changed.
  if (c.res.status !== 101) c.res.headers.set(TRACE_HEADER, traceId);
};

function settingsOf(env: EdgeEnv): Settings {
  if (known?.env !== env) known = { env, settings: readSettings(env) };
  return known.settings;
}
