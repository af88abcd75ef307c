import { Agent, get } from "node:http";
import { cpuMicroseconds, findDescendant } from "../test/system/processes.ts";
import { withVm } from "./account.ts";
import { type Benchmark, median } from "./figure.ts";

/** Rounds of each kind; one more before them warms up. */
const ROUNDS = 5;
/** Enough for the 10 ms resolution of CPU times to be a small part of a round. */
const REQUESTS_PER_ROUND = 2_000;
const CONCURRENCY = 16;

/**
 * CPU time of the edge's process for one authorised request (`GET /v1/vms/{id}` with an access token) against that for a
 * bare route (`/healthz`) in the same process. Rounds alternate, so that whatever else the machine does hits both.
 */
export const edgeAuthorisedCpu: Benchmark = {
  id: "edge.authorised_cpu",
  against: "bare route in the same workerd",
  measure: (system) =>
    withVm(system, async ({ vmId, token }) => {
      const pid = findDescendant(system.pid, "workerd");
      const bare = () => cpuPerRequest(pid, `${system.apiUrl}/healthz`, {});
      const authorised = () =>
        cpuPerRequest(pid, `${system.apiUrl}/v1/vms/${vmId}`, { "x-freestyle-identity-access-token": token });
      await bare();
      await authorised();
      const rounds: { bare: number; authorised: number }[] = [];
      for (let round = 0; round < ROUNDS; round += 1) rounds.push({ bare: await bare(), authorised: await authorised() });
      return {
        value: median(rounds.map((round) => round.authorised)),
        baseline: median(rounds.map((round) => round.bare)),
        unit: "µs",
      };
    }),
};

async function cpuPerRequest(pid: number, url: string, headers: Record<string, string>): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONCURRENCY });
  const before = cpuMicroseconds(pid);
  let left = REQUESTS_PER_ROUND;
  const worker = async () => {
    while (left > 0) {
      left -= 1;
      await request(url, headers, agent);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  const used = cpuMicroseconds(pid) - before;
  agent.destroy();
  return used / REQUESTS_PER_ROUND;
}

function request(url: string, headers: Record<string, string>, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    get(url, { headers, agent }, (response) => {
      response.resume();
      response.once("end", () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`${url} answered ${response.statusCode}`));
      });
    }).once("error", reject);
  });
}
