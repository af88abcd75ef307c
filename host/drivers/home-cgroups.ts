import { existsSync } from "node:fs";
import { readdir, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { PodmanHome } from "./podman-home.ts";

const POLL_MS = 20;

/** The cgroups of a home's machines: one of version 2, or one in each hierarchy of version 1. */
async function cgroupsOf(home: PodmanHome): Promise<readonly string[]> {
  const root = "/sys/fs/cgroup";
  const tops = [root, ...(await readdir(root)).map((name) => join(root, name))];
  return tops.map((top) => join(top, home.cgroupParent)).filter((path) => existsSync(path));
}

/** Lets every machine of a home run on. */
export async function thawAll(home: PodmanHome): Promise<void> {
  for (const parent of await cgroupsOf(home)) for (const name of await readdir(parent)) await setFrozen(join(parent, name), false);
}

/** Freezes a machine, or lets it run on, behind the engine's back. */
export async function setMachineFrozen(home: PodmanHome, containerId: string, frozen: boolean): Promise<void> {
  for (const parent of await cgroupsOf(home)) await setFrozen(join(parent, `libpod-${containerId}`), frozen);
}

/** A cgroup has the file of its version, if it has a freezer at all. */
async function setFrozen(cgroup: string, frozen: boolean): Promise<void> {
  await writeFile(join(cgroup, "freezer.state"), frozen ? "FROZEN" : "THAWED", { flag: "r+" }).catch(() => undefined);
  await writeFile(join(cgroup, "cgroup.freeze"), frozen ? "1" : "0", { flag: "r+" }).catch(() => undefined);
}

export async function removeCgroups(home: PodmanHome): Promise<void> {
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
