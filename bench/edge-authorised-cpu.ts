import { cpuMicroseconds, findDescendant } from "../test/system/processes.ts";
import { withVm } from "./account.ts";
import { cpuPerRequest } from "./cpu.ts";
import { type Benchmark, median } from "./figure.ts";

/** Rounds of each kind; one more before them warms up. */
const ROUNDS = 5;

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
      const bare = () => cpuPerRequest(() => cpuMicroseconds(pid), `${system.apiUrl}/healthz`, {});
      const authorised = () =>
        cpuPerRequest(() => cpuMicroseconds(pid), `${system.apiUrl}/v1/vms/${vmId}`, {
          "x-freestyle-identity-access-token": token,
        });
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
