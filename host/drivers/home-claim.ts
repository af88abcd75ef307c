import { randomUUID } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { writeFileAtomically } from "../../service/atomic-file.ts";
import { DriverError } from "../driver.ts";
import { killService, removeEngineLeftovers } from "./leftovers.ts";
import type { PodmanHome } from "./podman-home.ts";

const claimShape = z.object({
  /** Which boot of the machine; what was made in another one is gone, whatever files say. */
  boot: z.string(),
  /** Which life of the state directory; machines of a removed one must not be taken over. */
  life: z.string(),
  pid: z.int(),
  /** Start of the process in clock ticks since boot: a pid is used again, the pair is not. */
  started: z.string(),
});

/**
 * Makes this process the one that uses a home. Machines that a crashed predecessor left running stay; what belongs to
 * another boot or to a removed state directory is cleared. Throws `DriverError` `engine` while another process lives in it.
 */
export async function claimHome(home: PodmanHome): Promise<void> {
  const path = join(home.runDir, "claim.json");
  const boot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  const life = await lifeOf(home);
  const found = claimShape.safeParse(await readFile(path, "utf8").then(JSON.parse, () => null));
  const claim = found.success ? found.data : null;
  if (claim !== null && claim.boot === boot && claim.pid !== process.pid && (await startOf(claim.pid)) === claim.started) {
    throw new DriverError("engine", `process ${claim.pid} already runs machines from ${home.diskDir}`);
  }
  if (claim !== null && claim.boot === boot && claim.life === life) await killService(home);
  else await removeEngineLeftovers(home, 0);
  await mkdir(home.runDir, { recursive: true, mode: 0o700 });
  // Half a claim would be nobody's, and the next agent would clear away machines that run.
  writeFileAtomically(path, JSON.stringify({ boot, life, pid: process.pid, started: await startOf(process.pid) }));
}

async function lifeOf(home: PodmanHome): Promise<string> {
  const path = join(home.diskDir, "life");
  const known = await readFile(path, "utf8").catch(() => "");
  if (known !== "") return known;
  const life = randomUUID();
  await mkdir(home.diskDir, { recursive: true, mode: 0o700 });
  writeFileAtomically(path, life);
  return life;
}

/** Field 22 of /proc/pid/stat (proc(5)), or null when there is no such process. */
async function startOf(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  // The command's name, in parentheses, may hold spaces and parentheses itself.
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
}
