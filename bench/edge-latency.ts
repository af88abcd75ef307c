import { exec, hostExec } from "./edge-cpu.ts";
import { measure, percentile } from "./edge-load.ts";
import { withEdge } from "./edge-world.ts";
import type { Benchmark } from "./figure.ts";

const REQUESTS = 4_000;
const CONCURRENCY = 16;

/** Exec through the edge against the call that it makes to the host, made directly: p50 and p99 in the log. */
export const edgeLatency: Benchmark = {
  id: "edge.exec_p50_ms",
  against: "the host asked directly; one request at a time",
  measure: () =>
    withEdge({}, async (world) => {
      const { token } = await world.newToken();
      const { pid } = world.edge;
      await measure(pid, REQUESTS / 4, CONCURRENCY, () => exec(world, token));
      const alone = await measure(pid, REQUESTS, 1, () => exec(world, token));
      const baseline = await measure(pid, REQUESTS, 1, () => hostExec(world));
      const loaded = await measure(pid, REQUESTS, CONCURRENCY, () => exec(world, token));
      const added = (p: number) => percentile(alone.latencies, p) - percentile(baseline.latencies, p);
      console.error(
        `added p50 ${added(0.5).toFixed(2)} ms, p99 ${added(0.99).toFixed(2)} ms; ${Math.round(loaded.perSecond)} requests/s at ${CONCURRENCY} at once`,
      );
      return { value: percentile(alone.latencies, 0.5), baseline: percentile(baseline.latencies, 0.5), unit: "ms" };
    }),
};
