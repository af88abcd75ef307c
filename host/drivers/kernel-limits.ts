import { readFile, writeFile } from "node:fs/promises";
import type { Log } from "../../service/log.ts";

/** inotify(7): shared by everything that runs as root on this host, every guest's root included. */
const INOTIFY_INSTANCES = "/proc/sys/fs/inotify/max_user_instances";

/**
 * Lets root have so many inotify instances, unless it may have more already. A guest's systemd takes several, and ends as soon
 * as it is started where none is left: the kernel's own 128 are used up by a few dozen guests. Stays when the driver closes,
 * since others may have come to need it.
 */
export async function allowInotifyInstances(wanted: number, log: Log): Promise<void> {
  try {
    if (Number(await readFile(INOTIFY_INSTANCES, "utf8")) < wanted) await writeFile(INOTIFY_INSTANCES, String(wanted));
  } catch (error) {
    log.warn("the kernel's limit of inotify instances could not be raised; many guests at once may not start", {
      path: INOTIFY_INSTANCES,
      error: String(error),
    });
  }
}
