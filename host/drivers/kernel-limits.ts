import { readFile, writeFile } from "node:fs/promises";
import type { Log } from "../../service/log.ts";

/** inotify(7): shared by everything that root started on this host, every guest included, whatever ids it has. */
const INOTIFY = "/proc/sys/fs/inotify";

/**
 * Lets root have so many inotify instances and watches, unless it may have more already. A guest's systemd takes several, and ends as
 * soon as it is started where none is left: the kernel's own 128 are used up by a few dozen guests, and any other number
 * that one guest may reach by the one that tries. Stays when the driver closes, since others may have come to need it.
 */
export async function allowInotify(
  wanted: { readonly inotifyInstances: number; readonly inotifyWatches: number },
  log: Log,
): Promise<void> {
  await raise(`${INOTIFY}/max_user_instances`, wanted.inotifyInstances, log);
  await raise(`${INOTIFY}/max_user_watches`, wanted.inotifyWatches, log);
}

async function raise(path: string, wanted: number, log: Log): Promise<void> {
  try {
    if (Number(await readFile(path, "utf8")) < wanted) await writeFile(path, String(wanted));
  } catch (error) {
    log.warn("a limit of the kernel could not be raised; many guests at once may not start", { path, error: String(error) });
  }
}
