import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { SystemAccess } from "../test/system/running-system.ts";
import { type BenchVm, withVm } from "./account.ts";
import { ATTACKS, type Attack } from "./attacks.ts";
import { type Benchmark, median } from "./figure.ts";
import { wayThrough } from "./ssh-ways.ts";
import { Typist } from "./typist.ts";

const KEYSTROKES = 300;
/** Faster than anybody types, yet a small part of what a forwarder can do. */
const REST_MS = 10;
const ATTACK = fileURLToPath(new URL("attack.ts", import.meta.url));

/**
 * Time from a keystroke to its echo in a session of another VM while one kind of hostile clients is at work, against the
 * same session's before: 95th percentiles, since a forwarder that stands still does so now and then.
 */
function neighbour(id: string, attacks: readonly Attack[]): Benchmark {
  return {
    id,
    against: "same session with nobody else about",
    measure: (system) =>
      withVm(system, (quiet) =>
        withVm(system, async (hostile) => {
          const typist = new Typist(wayThrough(system, quiet));
          try {
            await typist.type(KEYSTROKES, REST_MS);
            const alone = await typist.type(KEYSTROKES, REST_MS);
            const end = await begin(system, hostile, attacks);
            try {
              const beside = await typist.type(KEYSTROKES, REST_MS);
              console.error(`${id}: median ${median(beside).toFixed(2)} ms against ${median(alone).toFixed(2)} ms`);
              return { value: percentile95(beside), baseline: percentile95(alone), unit: "ms" };
            } finally {
              await end();
            }
          } finally {
            await typist.leave();
          }
        }),
      ),
  };
}

/** Starts them all; answers how to end them. */
async function begin(system: SystemAccess, { vmId, token }: BenchVm, attacks: readonly Attack[]): Promise<() => Promise<void>> {
  const running = attacks.map((attack) => {
    const args = [ATTACK, attack, system.sshHost, String(system.sshPort), vmId, token];
    return spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  });
  const ended = running.map((child) => once(child, "exit"));
  const end = async () => {
    for (const child of running) child.kill("SIGKILL");
    await Promise.all(ended);
  };
  try {
    await Promise.all(running.map((child) => Promise.race([once(createInterface(child.stdout), "line"), tooSoon(child)])));
  } catch (error) {
    await end();
    throw error;
  }
  return end;
}

async function tooSoon(child: NodeJS.EventEmitter): Promise<never> {
  await once(child, "exit");
  throw new Error("an attack ended before it had begun");
}

function percentile95(values: readonly number[]): number {
  const value = values.toSorted((left, right) => left - right)[Math.floor(values.length * 0.95)];
  if (value === undefined) throw new Error("nothing was measured");
  return value;
}

/** All of them at once, and each alone. */
export const sshNeighbour: readonly Benchmark[] = [
  neighbour("ssh.neighbour_ms", ATTACKS),
  ...ATTACKS.map((attack) => neighbour(`ssh.neighbour_ms.${attack}`, [attack])),
];
