import { existsSync, readFileSync } from "node:fs";
import { readdir, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { networkNames } from "../network/addressing.ts";
import { removeNetwork } from "../network/guest-network.ts";
import { runCommand } from "../network/run-command.ts";
import { type PodmanHome, podmanHome } from "./podman-home.ts";

const POLL_MS = 20;
/** SIGKILL takes effect at once unless the kernel is stuck in a device; then waiting longer does not help. */
const KILL_WAIT_MS = 5_000;

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
  for (const mount of await mountsUnder(home)) await runCommand("engine", "umount", ["--lazy", mount]);
  await removeCgroups(home);
  await rm(home.runDir, { recursive: true, force: true });
}

/** Ends the engine's service, one left by a crashed predecessor included. */
export async function killService(home: PodmanHome): Promise<void> {
  await killAll(await processesWith((argv) => argv.includes(`unix://${home.socket}`)));
}

async function killMachines(home: PodmanHome): Promise<void> {
  const monitors = await engineProcesses(home);
  // The guest's first process is the monitor's child; its namespace ends with it. A frozen one dies once it thaws.
  const guests = (await Promise.all(monitors.map(childrenOf))).flat();
  await thaw(home);
  // Monitors first: one that sees its guest end runs podman once more, which would mount what is unmounted here.
  await killAll(monitors);
  await killAll([...guests, ...(await engineProcesses(home))]);
}

/** Monitors of machines, and what they and the service run for a moment. */
function engineProcesses(home: PodmanHome): Promise<readonly number[]> {
  const ours = (word: string) => word.startsWith(`${home.runDir}/`) || word.startsWith(`${home.diskDir}/`);
  return processesWith((argv) => /(^|\/)(conmon|podman|runc|qemu-system-x86_64)$/.test(argv[0] ?? "") && argv.some(ours));
}

async function processesWith(wanted: (argv: readonly string[]) => boolean): Promise<readonly number[]> {
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
 * Unmounts what an engine that was killed in the middle had mounted for a container, so that it can be removed: the engine's
 * successor does not know of these mounts.
 */
export async function unmountContainer(home: PodmanHome, containerId: string): Promise<void> {
  const mounts = (await mountsUnder(home)).filter((mount) => mount.includes(`/overlay-containers/${containerId}/`));
  for (const mount of mounts) await runCommand("engine", "umount", ["--lazy", mount]);
}

async function mountsUnder(home: PodmanHome): Promise<readonly string[]> {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  const targets = lines.map((line) => (line.split(" ")[4] ?? "").replaceAll("\\040", " "));
  // The innermost first: mountinfo lists a mount after the one it lies in.
  return targets.filter((target) => [home.diskDir, home.runDir].some((top) => target.startsWith(`${top}/`))).reverse();
}

async function cgroupsOf(home: PodmanHome): Promise<readonly string[]> {
  const root = "/sys/fs/cgroup";
  const tops = [root, ...(await readdir(root)).map((name) => join(root, name))];
  return tops.map((top) => join(top, home.cgroupParent)).filter((path) => existsSync(path));
}

async function thaw(home: PodmanHome): Promise<void> {
  for (const parent of await cgroupsOf(home)) {
    for (const name of await readdir(parent)) {
      await writeFile(join(parent, name, "freezer.state"), "THAWED").catch(() => undefined);
      await writeFile(join(parent, name, "cgroup.freeze"), "0").catch(() => undefined);
    }
  }
}

async function removeCgroups(home: PodmanHome): Promise<void> {
  for (const parent of await cgroupsOf(home)) await removeCgroup(parent);
}

async function removeCgroup(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await removeCgroup(join(path, entry.name));
  // Busy for a moment after its last process died; an empty cgroup that stays does no harm.
  for (let tries = 0; tries < 25; tries += 1) {
    const gone = await rmdir(path).then(
      () => true,
      () => !existsSync(path),
    );
    if (gone) return;
    await delay(POLL_MS);
  }
}
