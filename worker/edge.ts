import type { Context } from "hono";
import type { Env } from "../durable-objects/env.ts";
import type { Clock, RandomBytes } from "../protocol/bytes.ts";
import type { RequestHead } from "./http/request-head.ts";
import type { ServerTiming } from "./http/server-timing.ts";
import type { TimeLimits } from "./http/time-limits.ts";
import type { UrlParts } from "./http/url-parts.ts";
import type { RateLimiters } from "./limits/rate-limits.ts";
import type { Settings, SettingVars } from "./settings.ts";

/** Bindings and variables of the Worker. */
export type EdgeEnv = Env & SettingVars & RateLimiters & { readonly CLIENT_ADDRESS_HEADER?: string; readonly VM_DOMAIN?: string };

/** Everything that serving one request depends on; services take it as their first argument. */
export interface Edge {
  readonly env: EdgeEnv;
  readonly settings: Settings;
  /** The request's URL, taken apart. */
  readonly url: UrlParts;
  readonly head: RequestHead;
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
  /** Names this request in every log from here to the guest. */
  readonly traceId: string;
  /** IP address that the request came from; null where it cannot be known. */
  readonly clientAddress: string | null;
  /** Seconds after which the caller would rather poll for the answer; null: it does not poll. */
  readonly backgroundAfterS: number | null;
  /** The caller's name for what it wants made at most once; null: it gave none. */
  readonly idempotencyKey: string | null;
  /** Regions that could not be told yet of what this request took away; the answer names them. */
  readonly untold: Set<string>;
  /** What the steps of this request take. */
  readonly timing: ServerTiming;
  /** How long its steps may take. */
  readonly timeLimits: TimeLimits;
  /** Aborts when the caller leaves before its answer; says nothing of requests whose answer has begun. */
  readonly callerLeft: AbortSignal;
  /** Lets work go on after the answer. */
  readonly waitUntil: (work: Promise<unknown>) => void;
}

/** Hono's bindings are what a request depends on: putting it into each context by a middleware would cost more than routing. */
export interface EdgeHono {
  Bindings: Edge;
}

export type EdgeContext = Context<EdgeHono>;
