import { spawn } from "node:child_process";
import { once } from "node:events";
import { type Benchmark, median } from "./figure.ts";
import { withWays } from "./ssh-ways.ts";

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
  const ssh = spawn("ssh", [...way, "cat"], { stdio: ["pipe", "pipe", "inherit"] });
  const times: number[] = [];
  // The first ones wait for the login.
  for (let stroke = -10; stroke < KEYSTROKES; stroke += 1) {
    const started = performance.now();
    ssh.stdin.write("x");
    await once(ssh.stdout, "data");
    if (stroke >= 0) times.push(performance.now() - started);
  }
  ssh.stdin.end();
  await once(ssh, "close");
  return median(times);
}
