import { type Benchmark, median } from "./figure.ts";
import { withWays } from "./ssh-ways.ts";
import { Typist } from "./typist.ts";

const KEYSTROKES = 500;

/** Time from a keystroke to its echo: `ssh … cat`, one byte at a time, against the same by a direct login. */
export const sshEcho: Benchmark = {
  id: "ssh.echo_ms",
  against: "direct login to the same guest",
  measure: (system) =>
    withWays(system, async ({ through, direct }) => {
      const baseline = await echo(direct);
      return { value: await echo(through), baseline, unit: "ms" };
    }),
};

async function echo(way: readonly string[]): Promise<number> {
  const typist = new Typist(way);
  const times = await typist.type(KEYSTROKES);
  await typist.leave();
  return median(times);
}
