import { platformRandomBytes, toHex } from "../../protocol/bytes.ts";
import { BACKGROUND_AFTER_HEADER, IDEMPOTENCY_KEY_HEADER, TRACE_HEADER, UNTOLD_REGIONS_HEADER } from "../../protocol/headers.ts";
import type { Edge, EdgeEnv } from "../edge.ts";
import { clientAddressOf } from "../limits/client-address.ts";
import { logEvent } from "../log.ts";
import { readSettings, type Settings } from "../settings.ts";
import { RequestHead } from "./request-head.ts";
import { ServerTiming } from "./server-timing.ts";
import { TimeLimits } from "./time-limits.ts";
import { urlParts } from "./url-parts.ts";

const TRACE_BYTES = 16;
/** Random bytes for so many trace ids are drawn at once: they are no secrets, and asking the runtime costs more than using them. */
const TRACE_IDS_A_DRAW = 256;
let drawn = new Uint8Array(0);
let used = 0;

let known: { readonly env: EdgeEnv; readonly settings: Settings } | undefined;

/** Begins a request: gives it a trace id, which every answer carries, and what services depend on. */
export function begin(request: Request, env: EdgeEnv, context: ExecutionContext): Edge {
  const head = new RequestHead(request);
  return {
    env,
    settings: settingsOf(env),
    url: urlParts(request.url),
    head,
    clock: Date.now,
    randomBytes: platformRandomBytes,
    traceId: newTraceId(),
    // These are asked of the runtime only where somebody needs them.
    get clientAddress() {
      return clientAddressOf(request, env.CLIENT_ADDRESS_HEADER);
    },
    get callerLeft() {
      return request.signal;
    },
    get backgroundAfterS() {
      return backgroundAfter(head.get(BACKGROUND_AFTER_HEADER));
    },
    get idempotencyKey() {
      return head.get(IDEMPOTENCY_KEY_HEADER);
    },
    untold: new Set(),
    timing: new ServerTiming(),
    timeLimits: new TimeLimits(),
    waitUntil: (work) => context.waitUntil(work),
  };
}

/** Says in an answer what every answer says. `origin`: to a guest's nothing of ours is added but the trace id. */
export function finish(edge: Edge, request: Request, answer: Response, origin: "api" | "guest"): Response {
  const { status, headers } = answer;
  if (edge.settings.LOG_REQUESTS > 0) logRequest(edge, request.method, status, origin);
  // The answer to an upgrade carries a socket and cannot be changed.
  if (status === 101) return answer;
  headers.set(TRACE_HEADER, edge.traceId);
  if (edge.untold.size > 0) headers.set(UNTOLD_REGIONS_HEADER, [...edge.untold].join(","));
  if (origin === "guest") return answer;
  const steps = edge.timing.header();
  if (steps !== null) headers.set("server-timing", steps);
  // Answers are one caller's own, and caches know only some of the headers that say who that is. What a host did for any other method
  // they do not keep anyway; answers of our own may hold secrets, and say it always.
  const mustSay = steps === null || isCacheable(request.method);
  if (mustSay && !headers.has("cache-control")) headers.set("cache-control", "no-store");
  return answer;
}

function newTraceId(): string {
  if (used >= drawn.length) {
    drawn = platformRandomBytes(TRACE_BYTES * TRACE_IDS_A_DRAW);
    used = 0;
  }
  used += TRACE_BYTES;
  return toHex(drawn.subarray(used - TRACE_BYTES, used));
}

/** Whether caches may keep an answer that does not say for how long (RFC 9110 section 9.2.3). */
function isCacheable(method: string): boolean {
  return method === "GET" || method === "HEAD";
}

/** Of the URL only the path, and not that either where it is a guest's: queries carry tickets and links. */
function logRequest({ traceId, url, timing }: Edge, method: string, status: number, origin: "api" | "guest"): void {
  const path = origin === "guest" ? null : url.pathname;
  logEvent("request", { traceId, method, host: url.hostname, path, status, ms: timing.elapsedMs() });
}

function settingsOf(env: EdgeEnv): Settings {
  if (known?.env !== env) known = { env, settings: readSettings(env) };
  return known.settings;
}

/** The header's whole seconds; null when it is absent or is no such number. */
function backgroundAfter(header: string | null): number | null {
  return header !== null && /^\d{1,6}$/.test(header) ? Number(header) : null;
}
