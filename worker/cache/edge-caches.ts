import type { AccountStanding, Verdict } from "../../durable-objects/contract.ts";
import type { Placement, Tenancy } from "../../durable-objects/vm-contract.ts";
import type { Edge } from "../edge.ts";
import { coloCache } from "./cache-api.ts";
import { noColo } from "./colo.ts";
import { FactCache, type Lookup } from "./facts.ts";
import { keptKey, keptPlacement, keptTenancy, keptVerdict } from "./forms.ts";
import { type RefusalLimits, Refusals } from "./refusals.ts";

/** What one isolate knows. Nothing of it is a secret: credentials are named by the hash of their secret. */
export const caches = {
  /** Of access tokens, by token, VM, operation and Linux user. */
  verdicts: new FactCache<Verdict>("verdict", keptVerdict),
  /** Of API keys, by key. */
  keys: new FactCache<AccountStanding>("key", keptKey),
  tenancies: new FactCache<Tenancy>("tenancy", keptTenancy),
  placements: new FactCache<Placement>("placement", keptPlacement),
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
