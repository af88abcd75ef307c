import { type Benchmark, median } from "./figure.ts";
import { timeSsh, withWays } from "./ssh-ways.ts";

const ROUNDS = 25;

/** Time of `ssh … true` through the forwarder against that of a direct login to the same guest. Rounds alternate. */
export const sshConnectVsDirect: Benchmark = {
  id: "ssh.connect_vs_direct",
  against: "direct login to the same guest",
  measure: (system) =>
    withWays(system, async ({ through, direct }) => {
      await timeSsh(direct, "true");
      await timeSsh(through, "true");
      const rounds: { through: number; direct: number }[] = [];
      for (let round = 0; round < ROUNDS; round += 1) {
        rounds.push({ direct: await timeSsh(direct, "true"), through: await timeSsh(through, "true") });
      }
      return {
        value: median(rounds.map((round) => round.through)) * 1_000,
        baseline: median(rounds.map((round) => round.direct)) * 1_000,
        unit: "ms",
      };
    }),
};
