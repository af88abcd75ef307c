import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { processesWith } from "./leftovers.ts";
import type { PodmanHome } from "./podman-home.ts";

/** What a shell says of a process that SIGKILL ended: 128 and the signal. */
const KILLED = "137";

/**
 * The engine learns from a guest's monitor (conmon) alone that the guest has ended: from a file with its exit status. Where the monitor
 * was killed nobody writes it, and the engine would believe for good that the guest runs, or is about to stop, and never start it
 * again. So it is written here, if neither the guest nor its monitor lives. `pid`: the guest's first process as the engine knows it.
 * True: written, so the engine is to be asked again.
 */
export async function reportEnd(home: PodmanHome, containerId: string, pid: number): Promise<boolean> {
  if (await isGuest(pid, containerId)) return false;
  const monitors = await processesWith((argv) => /(^|\/)conmon$/.test(argv[0] ?? "") && argv.includes(containerId));
  if (monitors.length > 0) return false;
  const exits = join(home.runDir, "tmp", "exits");
  await mkdir(exits, { recursive: true });
  await writeFile(join(exits, containerId), KILLED);
  return true;
}

/** Whether this process lives and is the container's: a pid may have become somebody else's. */
async function isGuest(pid: number, containerId: string): Promise<boolean> {
  const [status, cgroups] = await Promise.all(
    ["status", "cgroup"].map((file) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "")),
  );
  return /^State:\s+[^ZX]/m.test(status ?? "") && (cgroups ?? "").includes(`libpod-${containerId}`);
}
