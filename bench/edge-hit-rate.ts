import { z } from "zod";
import { success } from "../protocol/failures.ts";
import type { Colo } from "../worker/cache/colo.ts";
import { FactCache, type Level, type Lookup } from "../worker/cache/facts.ts";
import type { Fact, Kept } from "../worker/cache/freshness.ts";
import type { Benchmark } from "./figure.ts";

const IDENTITIES = 100_000;
const REQUESTS = 1_000_000;
/** How unevenly requests fall on identities: the k-th most frequent one has a share of 1/k^s. */
const EXPONENT = 1.5;
/** Requests a second at one location, over all its isolates. */
const RATE_PER_S = 10_000;
const ISOLATES = 4;
const SEED = 20_260_101;
/** Defaults of the settings of these names. */
const VERDICT_MAX_AGE_MS = 60_000;
const VERDICT_REFRESH_AGE_MS = 40_000;
const VERDICT_CACHE_ENTRIES = 20_000;

export interface Replay {
  /** Share of requests that asked no object. */
  readonly hits: number;
  readonly byLevel: Readonly<Record<Level, number>>;
  /** Most verdicts that an isolate kept. */
  readonly largest: number;
}

/**
 * Replays a million requests, after a million that warm up, over the edge's own cache: isolates of one location, which share its
 * cache, under a clock of the replay's own.
 */
export async function replay(exponent: number, ratePerS: number): Promise<Replay> {
  let now = 1_900_000_000_000;
  const kept = z.custom<Kept<Fact>>((value) => value !== null);
  const isolates = Array.from({ length: ISOLATES }, () => new FactCache<Fact>("verdict", kept));
  const lookup: Lookup = {
    clock: () => now,
    colo: location(() => now),
    maxEntries: VERDICT_CACHE_ENTRIES,
    maxAgeMs: VERDICT_MAX_AGE_MS,
    refreshAgeMs: VERDICT_REFRESH_AGE_MS,
    waitUntil: () => undefined,
  };
  const random = generator(SEED);
  const identity = zipf(exponent, random);
  const byLevel: Record<Level, number> = { isolate: 0, colo: 0, object: 0, shared: 0 };
  let largest = 0;
  for (let index = -REQUESTS; index < REQUESTS; index += 1) {
    now += 1_000 / ratePerS;
    const isolate = isolates[Math.floor(random() * ISOLATES)];
    if (isolate === undefined) throw new Error("no such isolate");
    const { level } = await isolate.find(`identity-${identity()}`, lookup, async () => success({ readAt: now }));
    if (index >= 0) byLevel[level] += 1;
    largest = Math.max(largest, isolate.size);
  }
  return { hits: (byLevel.isolate + byLevel.colo + byLevel.shared) / REQUESTS, byLevel, largest };
}

export const edgeHitRate: Benchmark = {
  id: "edge.hit_rate",
  against: `share of requests that must ask no object: 98 % (Zipf s=${EXPONENT}, ${RATE_PER_S}/s at one location)`,
  measure: async () => {
    const { hits, byLevel, largest } = await replay(EXPONENT, RATE_PER_S);
    console.error(`levels: ${JSON.stringify(byLevel)}; most verdicts in an isolate: ${largest}`);
    return { value: hits * 100, baseline: 98, unit: "%" };
  },
};

function location(clock: () => number): Colo {
  const entries = new Map<string, { readonly value: unknown; readonly until: number }>();
  return {
    get: async (key) => {
      const entry = entries.get(key);
      return entry !== undefined && clock() < entry.until ? entry.value : null;
    },
    put: async (key, value, maxAgeMs) => {
      entries.set(key, { value, until: clock() + maxAgeMs });
    },
    drop: async (key) => {
      entries.delete(key);
    },
  };
}

/** Draws ranks 1 to `IDENTITIES` by their share. */
function zipf(exponent: number, random: () => number): () => number {
  const sums = new Float64Array(IDENTITIES);
  let sum = 0;
  for (let rank = 1; rank <= IDENTITIES; rank += 1) {
    sum += rank ** -exponent;
    sums[rank - 1] = sum;
  }
  return () => {
    const wanted = random() * sum;
    let low = 0;
    let high = IDENTITIES - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    return low + 1;
  };
}

/** Numbers from 0 to 1 that are the same for the same seed (xorshift32, Marsaglia 2003). */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
