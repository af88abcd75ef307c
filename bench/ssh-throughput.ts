import { type Benchmark, median } from "./figure.ts";
import { MEBIBYTES, timeSsh, type Ways, withWays } from "./ssh-ways.ts";

const ROUNDS = 5;
const BYTES = MEBIBYTES * 1024 * 1024;

type Transfer = (way: readonly string[]) => Promise<number>;

/** Fetches the file; answers MiB a second, as `up` does. */
export const down: Transfer = async (way) => MEBIBYTES / (await timeSsh(way, "cat /root/big", 0, BYTES));
export const up: Transfer = async (way) => MEBIBYTES / (await timeSsh(way, "cat >/dev/null", BYTES));

/** Throughput through the forwarder against another way. Rounds alternate; connecting is part of both. */
function throughput(id: string, against: string, baseline: "direct" | "jump", transfer: Transfer): Benchmark {
  return {
    id,
    against,
    measure: (system) =>
      withWays(system, async (ways: Ways) => {
        await transfer(ways[baseline]);
        await transfer(ways.through);
        const rounds: { through: number; baseline: number }[] = [];
        for (let round = 0; round < ROUNDS; round += 1) {
          rounds.push({ baseline: await transfer(ways[baseline]), through: await transfer(ways.through) });
        }
        return {
          value: median(rounds.map((round) => round.through)),
          baseline: median(rounds.map((round) => round.baseline)),
          unit: "MiB/s",
        };
      }),
  };
}

export const sshDownVsDirect = throughput("ssh.down_vs_direct", "direct sshd in the same guest", "direct", down);
export const sshDownVsJump = throughput("ssh.down_vs_jump", "ProxyJump to the same guest", "jump", down);
export const sshUpVsJump = throughput("ssh.up_vs_jump", "ProxyJump to the same guest", "jump", up);
