import { z } from "zod";
import type { AccountStanding, Verdict } from "../../durable-objects/contract.ts";
import type { Placement, Tenancy } from "../../durable-objects/vm-contract.ts";
import { publicPort } from "../../protocol/host-api.ts";
import { OPERATIONS } from "../../protocol/operations.ts";
import { isPrincipal } from "../../protocol/subjects.ts";
import type { Edge } from "../edge.ts";
import { coloCache } from "./cache-api.ts";
import { noColo } from "./colo.ts";
import { FactCache, type Lookup } from "./facts.ts";
import type { Fact, Kept } from "./freshness.ts";
import { type RefusalLimits, Refusals } from "./refusals.ts";

const time = z.number();
const epoch = z.int().nonnegative();

/** What one isolate knows. Nothing of it is a secret: credentials are named by the hash of their secret. */
export const caches = {
  /** Of access tokens, by token, VM, operation and Linux user. */
  verdicts: new FactCache<Verdict>(
    "verdict",
    keptOf(
      z.object({
        subject: z.custom<Verdict["subject"]>(isPrincipal),
        accountId: z.string(),
        credentialId: z.string(),
        vmId: z.string(),
        operation: z.enum(OPERATIONS),
        linuxUser: z.string().nullable(),
        epoch,
        readAt: time,
        expiresAt: time.nullable(),
      }),
    ),
  ),
  /** Of API keys, by key. */
  keys: new FactCache<AccountStanding>("key", keptOf(z.object({ accountId: z.string(), keyId: z.string(), epoch, readAt: time }))),
  tenancies: new FactCache<Tenancy>("tenancy", keptOf(z.object({ accountId: z.string(), epoch, readAt: time }))),
  placements: new FactCache<Placement>(
    "placement",
    keptOf(
      z.object({
        vmId: z.string(),
        accountId: z.string(),
        region: z.string(),
        hostId: z.string(),
        hostUrl: z.string(),
        ports: z.array(publicPort),
        epoch,
        readAt: time,
      }),
    ),
  ),
  refusals: new Refusals(),
};

/** Forgets everything; for tests, whose objects come and go within one isolate. */
export function forgetCaches(): void {
  for (const cache of Object.values(caches)) cache.clear();
}

/** How this request looks facts up. */
export function lookupOf(edge: Edge): Lookup {
  const { VERDICT_MAX_AGE_MS: maxAgeMs, VERDICT_REFRESH_AGE_MS: refreshAgeMs, VERDICT_CACHE_ENTRIES: maxEntries } = edge.settings;
  return { clock: edge.clock, colo: coloOf(edge), maxEntries, maxAgeMs, refreshAgeMs, waitUntil: edge.waitUntil };
}

export function refusalLimitsOf(edge: Edge): RefusalLimits {
  const { REFUSAL_MAX_AGE_MS: maxAgeMs, VERDICT_CACHE_ENTRIES: maxEntries } = edge.settings;
  return { now: edge.clock(), colo: coloOf(edge), maxEntries, maxAgeMs };
}

function coloOf(edge: Edge) {
  return edge.settings.COLO_CACHE === 0 ? noColo : coloCache;
}

function keptOf<T extends Fact>(fact: z.ZodType<T>): z.ZodType<Kept<T>> {
  return z.object({ fact, askedAt: time });
}
