import { type FailureKind, failure, type Result, success } from "../../protocol/failures.ts";
import type { Credential } from "../../protocol/tokens.ts";
import type { Edge } from "../edge.ts";
import { logEvent } from "../log.ts";
import { addressKey } from "./client-address.ts";
import { type Rate, TokenBuckets } from "./token-bucket.ts";

/** A rate limiter of the platform, shared by a whole location. Its limit is set where it is bound. */
interface RateLimiter {
  limit(options: { readonly key: string }): Promise<{ readonly success: boolean }>;
}

/** Bindings that a deployment may have; without them every isolate counts for itself. */
export interface RateLimiters {
  readonly PRINCIPAL_RATE_LIMITER?: RateLimiter;
  readonly ADDRESS_RATE_LIMITER?: RateLimiter;
}

const TOO_MANY = failure("rate-limited", "Too many requests. Wait the seconds of Retry-After, then go on more slowly.");

/** Failures of requests that showed no live credential. */
const OF_STRANGERS: ReadonlySet<FailureKind> = new Set([
  "credential-missing",
  "credential-invalid",
  "ticket-refused",
  "service-key-refused",
]);

const HASH_DIGITS = 16;

const principals = new TokenBuckets();
const addresses = new TokenBuckets();

/** Counts a request of a credential whose MAC is right, before any object is asked about it: `rate-limited` or nothing. */
export async function limitPrincipal(edge: Edge, { routing, secretHash }: Credential): Promise<Result<null>> {
  const { RATE_PRINCIPAL_PER_S: perSecond, RATE_PRINCIPAL_BURST: burst } = edge.settings;
  const key = `${routing}:${secretHash.slice(0, HASH_DIGITS)}`;
  const isAdmitted = await take(edge, principals, edge.env.PRINCIPAL_RATE_LIMITER, key, { perSecond, burst });
  if (isAdmitted) return success(null);
  logEvent("rate-limited", { traceId: edge.traceId, by: "principal", routing });
  return TOO_MANY;
}

/** Counts a visit to a VM's name by who comes, who shows no credential: one signed link, or one address. */
export async function limitVisitor(edge: Edge, key: string): Promise<Result<null>> {
  const { RATE_PRINCIPAL_PER_S: perSecond, RATE_PRINCIPAL_BURST: burst } = edge.settings;
  const isAdmitted = await take(edge, principals, edge.env.PRINCIPAL_RATE_LIMITER, key, { perSecond, burst });
  return isAdmitted ? success(null) : TOO_MANY;
}

/**
 * Counts a request that showed no live credential against its address, and answers it: with its own failure, or with
 * `rate-limited` once there were too many. Requests that do show one are not touched: they may share the address.
 */
export async function limitFailures<T>(edge: Edge, result: Result<T>): Promise<Result<T>> {
  if (result.ok || !OF_STRANGERS.has(result.failure.kind)) return result;
  const { clientAddress: address } = edge;
  if (address === null) return result;
  const { RATE_ADDRESS_FAILURES_PER_S: perSecond, RATE_ADDRESS_FAILURES_BURST: burst } = edge.settings;
  const rate = { perSecond, burst };
  const isAdmitted = await take(edge, addresses, edge.env.ADDRESS_RATE_LIMITER, addressKey(address), rate);
  return isAdmitted ? result : TOO_MANY;
}

function take(
  edge: Edge,
  buckets: TokenBuckets,
  shared: RateLimiter | undefined,
  key: string,
  rate: Rate,
): boolean | Promise<boolean> {
  if (rate.perSecond === 0) return true;
  if (!buckets.take(key, rate, edge.settings.RATE_MAX_KEYS, edge.clock())) return false;
  return shared === undefined || shared.limit({ key }).then(({ success: isAdmitted }) => isAdmitted);
}
