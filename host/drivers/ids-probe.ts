import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import { writeFileAtomically } from "../../service/atomic-file.ts";
import type { Log } from "../../service/log.ts";
import { messageOf } from "../../service/message-of.ts";
import { DriverError } from "../driver.ts";
import { runCommand } from "../network/run-command.ts";
import type { ContainerSettings } from "./container-settings.ts";
import type { Engine } from "./engine.ts";
import { sharedImageStore } from "./guest-image.ts";
import type { IdRange } from "./id-ranges.ts";
import type { PodmanHome } from "./podman-home.ts";

export interface ProbeOptions {
  readonly engine: Pick<Engine, "runWithIds">;
  readonly home: Pick<PodmanHome, "diskDir">;
  readonly cacheDir: string;
  readonly image: string;
  readonly ids: IdRange;
  readonly wish: ContainerSettings["userNamespaces"];
  readonly log: Log;
}

/**
 * Whether new guests get ids of their own. `auto` finds out by running a container with some, says so in the log where that fails, and
 * remembers success in `cacheDir` for this kernel, podman and file system. Throws `DriverError` `engine` where they are
 * `on` and do not work.
 */
export async function guestsHaveIds(options: ProbeOptions): Promise<boolean> {
  const { home, cacheDir, wish, log } = options;
  if (wish === "off") return false;
  const version = await runCommand("engine", "podman", ["--version"]);
  const { dev } = await stat(home.diskDir);
  const key = createHash("sha256").update(`${release()}\n${version}\n${dev}`).digest("hex").slice(0, 16);
  const path = join(cacheDir, `guest-ids-${key}`);
  const known = await readFile(path, "utf8").catch(() => "");
  if (known !== "") return true;
  const trouble = await tryIds(options);
  if (trouble === null) {
    writeFileAtomically(path, "work\n");
    return true;
  }
  if (wish === "on") throw new DriverError("engine", `guests cannot have ids of their own: ${trouble}`);
  log.warn("new guests have the host's ids of users and groups, root's too, since their own do not work here", { why: trouble });
  return false;
}

/** What is in the way, or null. */
async function tryIds({ engine, cacheDir, image, ids }: ProbeOptions): Promise<string | null> {
  try {
    const { lower, status } = await engine.runWithIds(image, ids);
    if (status !== 0) return `a program in a container with ids of its own ended with ${status}`;
    // An engine that cannot map the ids of a mount makes a copy of the whole image for each machine instead.
    const isShared = lower.startsWith(`${sharedImageStore(cacheDir)}/`);
    return isShared ? null : "the kernel or the file system cannot mount the guest image with other ids (idmapped mounts)";
  } catch (error) {
    return messageOf(error);
  }
}
