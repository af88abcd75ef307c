import { cpuMicroseconds, findDescendant } from "../test/system/processes.ts";
import { withVm } from "./account.ts";
import { cpuPerRequest, inTurns } from "./cpu.ts";
import type { Benchmark } from "./figure.ts";

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
      return inTurns(authorised, bare);
    }),
};
