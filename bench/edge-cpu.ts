import { measure } from "./edge-load.ts";
import { type EdgeWorld, withEdge } from "./edge-world.ts";
import { type Benchmark, median } from "./figure.ts";

/** Rounds of each kind; one more before them warms up. They alternate, so that whatever else the machine does hits all. */
const ROUNDS = 5;
const REQUESTS = 2_000;
const CONCURRENCY = 16;
const EXEC = JSON.stringify({ command: "true", terminal: null, timeoutMs: null });
const AGAINST = "bare Hono route that forwards to the host, same workerd";

/**
 * Processor time of the edge for one exec with an access token against that of a bare route of the same framework in the same
 * process, which takes the same request and forwards it likewise, but asks nobody.
 */
function edgeCpu(id: string, vars: Readonly<Record<string, string>>, tokens: number): Benchmark {
  return {
    id,
    against: AGAINST,
    measure: () =>
      withEdge(vars, async (world) => {
        const credentials = await Promise.all(Array.from({ length: tokens }, () => world.newToken()));
        const bare = () => measure(world.edge.pid, REQUESTS, CONCURRENCY, () => bareForward(world));
        const authorised = () =>
          measure(world.edge.pid, REQUESTS, CONCURRENCY, (index) => exec(world, credentials[index % tokens]?.token ?? ""));
        await bare();
        await authorised();
        const rounds: { bare: number; authorised: number }[] = [];
        for (let round = 0; round < ROUNDS; round += 1) {
          rounds.push({ bare: (await bare()).cpu, authorised: (await authorised()).cpu });
        }
        return {
          value: median(rounds.map((round) => round.authorised)),
          baseline: median(rounds.map((round) => round.bare)),
          unit: "µs",
        };
      }),
  };
}

export function exec({ edge, vmId }: EdgeWorld, token: string) {
  return {
    url: `${edge.url}/v1/vms/${vmId}/exec-await`,
    method: "POST" as const,
    headers: { "x-freestyle-identity-access-token": token, "content-type": "application/json" },
    body: EXEC,
  };
}

export function bareForward({ bareUrl, bareHostUrl, vmId }: EdgeWorld) {
  return {
    url: `${bareUrl}/forward/${vmId}?host=${encodeURIComponent(bareHostUrl)}`,
    method: "POST" as const,
    headers: { "content-type": "application/json" },
    body: EXEC,
  };
}

/** The verdict is known, the ticket is used again. */
export const edgeCachedCpu = edgeCpu("edge.cached_cpu_ratio", {}, 1);

/** The verdict is known, a ticket is signed for each request: no ticket is ever far enough from its end to be used again. */
export const edgeSignedCpu = edgeCpu("edge.signed_cpu_ratio", { TICKET_REUSE_MARGIN_MS: "120000" }, 1);

/** Nothing is known of the token: its identity's object is read, and a ticket is signed. */
export const edgeColdCpu = edgeCpu("edge.cold_cpu_ratio", { VERDICT_CACHE_ENTRIES: "1", COLO_CACHE: "0" }, 8);
