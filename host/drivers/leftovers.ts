import { readFileSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { networkNames } from "../network/addressing.ts";
import { removeNetwork } from "../network/guest-network.ts";
import { runCommand } from "../network/run-command.ts";
import { removeCgroups, thawAll } from "./home-cgroups.ts";
import { type PodmanHome, podmanHome } from "./podman-home.ts";

/** Where runc, run by root, keeps what it knows of containers. */
const RUNTIME_STATES = "/run/runc";
const POLL_MS = 20;
/** SIGKILL takes effect at once unless the kernel is stuck in a device; then waiting longer does not help. */
const KILL_WAIT_MS = 5_000;
/** Far longer than the runtime takes to forget a container, milliseconds. */
const RUNTIME_MS = 30_000;

/**
 * Takes away everything that an agent's machines have in the kernel, whoever left it there and however it ended: engine,
 * guests, mounts, cgroups, network, firewall. Disks stay. Safe to call when there is nothing.
 */
export async function removeLeftovers(stateDir: string): Promise<void> {
  const home = await podmanHome(stateDir);
  await removeEngineLeftovers(home, 0);
  await removeNetwork(networkNames(home.tag));
}

/** The part of `removeLeftovers` that is not network, after giving it `settleMs` to go by itself. */
export async function removeEngineLeftovers(home: PodmanHome, settleMs: number): Promise<void> {
  const deadline = Date.now() + settleMs;
  while (Date.now() < deadline && (await engineProcesses(home)).length > 0) await delay(POLL_MS);
  await killService(home);
  await killMachines(home);
  await Promise.all((await runtimeStates(home)).map(removeRuntimeState));
  for (const mount of await mountsUnder(home)) await runCommand("engine", "umount", ["--lazy", mount]);
  await removeCgroups(home);
  const again = { recursive: true, force: true, maxRetries: 10, retryDelay: POLL_MS };
  await rm(home.runDir, again);
  // An agent that still lives may have started the service again meanwhile; without the folder it cannot once more.
  await killService(home);
  await rm(home.runDir, again);
}

/** Ends the engine's service, one left by a crashed predecessor and forks of it included. */
export async function killService(home: PodmanHome): Promise<void> {
  await killAll(await processesWith((argv) => argv.includes(`unix://${home.socket}`)));
}

async function killMachines(home: PodmanHome): Promise<void> {
  const monitors = await engineProcesses(home);
  // The guest's first process is the monitor's child; its namespace ends with it. A frozen one dies once it thaws.
  const guests = (await Promise.all(monitors.map(childrenOf))).flat();
  await thawAll(home);
  // Monitors first: one that sees its guest end runs podman once more, which would mount what is unmounted here.
  await killAll(monitors);
  await killAll([...guests, ...(await engineProcesses(home))]);
}

/** Monitors of machines, and what they and the service run for a moment. */
function engineProcesses(home: PodmanHome): Promise<readonly number[]> {
  const ours = (word: string) => word.startsWith(`${home.runDir}/`) || word.startsWith(`${home.diskDir}/`);
  return processesWith((argv) => /(^|\/)(conmon|podman|runc|qemu-system-x86_64)$/.test(argv[0] ?? "") && argv.some(ours));
}

/** Ids of the processes whose command line is wanted. */
export async function processesWith(wanted: (argv: readonly string[]) => boolean): Promise<readonly number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const argv = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
      return wanted(argv) ? [Number(pid)] : [];
    }),
  );
  return found.flat();
}

async function childrenOf(pid: number): Promise<readonly number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  return text.split(" ").filter(Boolean).map(Number);
}

async function killAll(pids: readonly number[]): Promise<void> {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Gone already, which is what was wanted.
    }
  }
  const deadline = Date.now() + KILL_WAIT_MS;
  while (pids.some(isAlive) && Date.now() < deadline) await delay(POLL_MS);
}

/** A zombie is dead: its parent may be slow to collect it. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/**
 * Takes away what an engine that was killed while it started or ended a machine has left of it, so that it can be started or removed:
 * its successor believes that the machine does not run and knows of none of this. For machines only that the engine says are not
 * running.
 */
export async function removeHalfStarted(home: PodmanHome, containerId: string): Promise<void> {
  // The monitor first: one that sees its guest end runs podman once more, which would meet what is done here.
  const monitors = await processesWith((argv) => /(^|\/)conmon$/.test(argv[0] ?? "") && argv.includes(containerId));
  const guests = (await Promise.all(monitors.map(childrenOf))).flat();
  await killAll(monitors);
  await killAll(guests);
  await removeRuntimeState(containerId);
  const mounts = (await mountsUnder(home)).filter((mount) => mount.includes(`/overlay-containers/${containerId}/`));
  for (const mount of mounts) await runCommand("engine", "umount", ["--lazy", mount]);
}

/** Kills what the runtime runs under this name and forgets it; nothing to forget is no error. */
async function removeRuntimeState(containerId: string): Promise<void> {
  await runCommand("engine", "runc", ["delete", "--force", containerId], { timeoutMs: RUNTIME_MS });
}

/** What the runtime, which all engines of this machine share, remembers of this home's machines: their ids. */
async function runtimeStates(home: PodmanHome): Promise<readonly string[]> {
  const ids = await readdir(RUNTIME_STATES).catch(() => []);
  const found = ids.map(async (id) => {
    const state = await readFile(join(RUNTIME_STATES, id, "state.json"), "utf8").catch(() => "");
    return state.includes(`${home.diskDir}/`) ? [id] : [];
  });
  return (await Promise.all(found)).flat();
}

async function mountsUnder(home: PodmanHome): Promise<readonly string[]> {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  const targets = lines.map((line) => (line.split(" ")[4] ?? "").replaceAll("\\040", " "));
  // The innermost first: mountinfo lists a mount after the one it lies in.
  return targets.filter((target) => [home.diskDir, home.runDir].some((top) => target.startsWith(`${top}/`))).reverse();
}
