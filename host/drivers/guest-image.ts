import { join } from "node:path";
import type { Progress } from "../driver.ts";
import { runCommand } from "../network/run-command.ts";

const SCRIPTS = join(import.meta.dirname, "..", "guest-image");

/** The read-only podman image store that all container drivers of this machine share. */
export function sharedImageStore(cacheDir: string): string {
  return join(cacheDir, "images");
}

/** Builds and imports the guest image if this recipe's is not there yet; answers its name. Slow the first time. */
export async function ensureGuestImage(cacheDir: string, progress: Progress): Promise<string> {
  const options = { onStderrLine: progress };
  const rootfs = (await runCommand("image", join(SCRIPTS, "build-rootfs.sh"), [cacheDir], options)).trim();
  return (await runCommand("image", join(SCRIPTS, "import-image.sh"), [cacheDir, rootfs], options)).trim();
}
