import { exec } from "./edge-cpu.ts";
import { measure, percentile } from "./edge-load.ts";
import { type EdgeWorld, withEdge } from "./edge-world.ts";
import type { Benchmark } from "./figure.ts";

const RUNS = 200;
/** Between two tries of one token while the feed is down, in milliseconds. */
const PROBE_MS = 100;
/** Longer than a verifier takes to notice that its feed is silent. */
const SILENCE_MS = 60_000;

type Holder = Awaited<ReturnType<EdgeWorld["newToken"]>>;

/**
 * Time from the moment a revocation is asked for to the first refused exec of a token that the edge knew and the host had
 * admitted: with the feed up, one after another.
 */
export const revokeHttp: Benchmark = {
  id: "revoke.http_p99_ms",
  against: "promise of 2 s (feed up), p99 of 200 revocations",
  measure: () =>
    withEdge({}, async (world) => {
      const times: number[] = [];
      for (let run = 0; run < RUNS; run += 1) {
        const holder = await known(world);
        const startedAt = performance.now();
        const revoked = revoke(world, holder);
        await untilRefused(world, holder, 0);
        times.push(performance.now() - startedAt);
        await revoked;
      }
      return { ...shown(times), baseline: 2_000 };
    }),
};

/** The same with the feed cut, all at once. */
export const revokeHttpFeedDown: Benchmark = {
  id: "revoke.http_feed_down_p99_ms",
  against: "promise of 20 s (feed down), p99 of 200 revocations",
  measure: () =>
    withEdge({}, async (world) => {
      const holders: Holder[] = [];
      while (holders.length < RUNS) holders.push(await known(world));
      world.host.membership.close();
      const times = await Promise.all(
        holders.map(async (holder) => {
          const startedAt = performance.now();
          await revoke(world, holder);
          await untilRefused(world, holder, PROBE_MS);
          return performance.now() - startedAt;
        }),
      );
      return { ...shown(times), baseline: 20_000 };
    }),
};

/** The p99 in milliseconds; prints the p50 beside it. */
export function shown(times: readonly number[]) {
  const sorted = times.toSorted((left, right) => left - right);
  console.error(`p50 ${Math.round(percentile(sorted, 0.5))} ms, p99 ${Math.round(percentile(sorted, 0.99))} ms`);
  return { value: percentile(sorted, 0.99), unit: "ms" };
}

/** A token that has just been used, so that the edge knows its verdict and has a ticket at hand. */
async function known(world: EdgeWorld): Promise<Holder> {
  const holder = await world.newToken();
  await measure(world.edge.pid, 2, 1, () => exec(world, holder.token));
  return holder;
}

async function revoke({ owner }: EdgeWorld, { identityId, tokenId }: Holder): Promise<void> {
  await owner.request("DELETE", `/identity/v1/identities/${identityId}/tokens/${tokenId}`);
}

async function untilRefused(world: EdgeWorld, { token }: Holder, pauseMs: number): Promise<void> {
  const { url, ...request } = exec(world, token);
  for (const end = performance.now() + SILENCE_MS; performance.now() < end; ) {
    const response = await fetch(url, request);
    await response.arrayBuffer();
    if (response.status === 401) return;
    if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  throw new Error("a revoked token is still admitted");
}
