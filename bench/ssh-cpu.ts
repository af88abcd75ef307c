import { until } from "../test/system/poll.ts";
import { cpuMicroseconds, cpuMicrosecondsWithEnded, familyOf, findDescendant } from "../test/system/processes.ts";
import { inTurns } from "./cpu.ts";
import type { Benchmark } from "./figure.ts";
import { down, up } from "./ssh-throughput.ts";
import { MEBIBYTES, withWays } from "./ssh-ways.ts";

/** One transfer each way. */
const GIBIBYTES_A_ROUND = (2 * MEBIBYTES) / 1_024;
const ENDED_MS = 10_000;

/** CPU seconds of forwarder and host for a GiB, half of it down and half up, against those of the sshd that `ProxyJump` goes over. */
export const sshCpu: Benchmark = {
  id: "ssh.cpu_s_per_gib",
  against: "jump sshd of OpenSSH's ProxyJump",
  measure: (system) =>
    withWays(system, ({ through, jump, jumpPid }) => {
      const parts = ["serve-forwarder", "serve-host"].map((word) => findDescendant(system.pid, word));
      return inTurns(
        () => perGib(through, async () => parts.reduce((sum, pid) => sum + cpuMicroseconds(pid), 0)),
        () => perGib(jump, () => cpuOfJump(jumpPid)),
        "s/GiB",
      );
    }),
};

async function perGib(way: readonly string[], cpu: () => Promise<number>): Promise<number> {
  const before = await cpu();
  await down(way);
  await up(way);
  return ((await cpu()) - before) / 1_000_000 / GIBIBYTES_A_ROUND;
}

/** Of the listening process and all that it forked, once the last of those has ended. */
async function cpuOfJump(pid: number): Promise<number> {
  await until("the jump's connections have ended", ENDED_MS, () => familyOf(pid).length === 1 || undefined);
  return cpuMicrosecondsWithEnded(pid);
}
