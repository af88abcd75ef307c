import { measure } from "./edge-load.ts";
import { type EdgeWorld, withEdge } from "./edge-world.ts";
import { type Benchmark, median } from "./figure.ts";

/**
 * Rounds of each kind, after some that warm up. They alternate and are short, so that whatever else the machine does hits both kinds: of
 * few long ones, each pair told another ratio.
 */
const ROUNDS = 100;
const WARM_UP_ROUNDS = 20;
const REQUESTS = 100;
const CONCURRENCY = 16;
const EXEC = JSON.stringify({ command: "true", terminal: null, timeoutMs: null });
const AGAINST = "bare Hono route that makes the same call to the same host, same workerd";

/**
 * Processor time of the edge for one exec with an access token against that of a bare route of the same framework in the same
 * process, which takes the same request and makes the same call to the same host with a ticket that it was given, but asks nobody. It must
 * be the same host: the longer a host takes, the more seldom does the edge find several answers at once, and the dearer is each.
 */
function edgeCpu(id: string, vars: Readonly<Record<string, string>>, tokens: number): Benchmark {
  return {
    id,
    against: AGAINST,
    measure: () =>
      withEdge(vars, async (world) => {
        const credentials = await Promise.all(Array.from({ length: tokens }, () => world.newToken()));
        const bare = async () => {
          await lendTicket(world);
          return measure(world.edge.pid, REQUESTS, CONCURRENCY, () => bareForward(world, credentials[0]?.token ?? ""));
        };
        const authorised = () =>
          measure(world.edge.pid, REQUESTS, CONCURRENCY, (index) => exec(world, credentials[index % tokens]?.token ?? ""));
        await authorised();
        const rounds: { bare: number; authorised: number }[] = [];
        for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round += 1) {
          const cpu = { bare: (await bare()).cpu, authorised: (await authorised()).cpu };
          if (round >= 0) rounds.push(cpu);
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

/** The same request to the bare route. */
function bareForward(world: EdgeWorld, token: string) {
  const { bareUrl, host, vmId } = world;
  return { ...exec(world, token), url: `${bareUrl}/forward/${vmId}?host=${encodeURIComponent(host.url)}` };
}

/** Gives the bare route the ticket that the edge used last, which soon ends. */
async function lendTicket({ bareUrl, host }: EdgeWorld): Promise<void> {
  await fetch(`${bareUrl}/authorization`, { method: "PUT", body: host.authorization });
}

/** The call that the edge makes to the host for `exec`, with the ticket that it used last. */
export function hostExec({ host, vmId }: EdgeWorld) {
  return {
    url: `${host.url}/vms/${vmId}/exec`,
    method: "POST" as const,
    headers: { authorization: host.authorization ?? "", "content-type": "application/json" },
    body: EXEC,
  };
}

/** The verdict is known, the ticket is used again. */
export const edgeCachedCpu = edgeCpu("edge.cached_cpu_ratio", {}, 1);

/** The verdict is known, a ticket is signed for each request: no ticket is ever far enough from its end to be used again. */
export const edgeSignedCpu = edgeCpu("edge.signed_cpu_ratio", { TICKET_REUSE_MARGIN_MS: "120000" }, 1);

/** Nothing is known of the token: its identity's object is read, and a ticket is signed. */
export const edgeColdCpu = edgeCpu("edge.cold_cpu_ratio", { VERDICT_CACHE_ENTRIES: "1", COLO_CACHE: "0" }, 8);
