import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";

/** The host key of a VM is not the one it had before: whoever is in between may be lying, or the VM was made anew. */
export class ChangedHostKey extends Error {}

/**
 * Keeps the host key of a VM in a known_hosts file of ours, under the name that `ssh` calls it. The first key that is seen is trusted, as
 * `ssh` itself would; another one later is refused with `ChangedHostKey`.
 */
export function pinHostKey(file: string, name: string, hostKey: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const known = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
  const lines = known.filter((line) => line.startsWith(`${name} `));
  if (lines.includes(`${name} ${hostKey}`)) return;
  if (lines.length > 0) {
    throw new ChangedHostKey(
      `The VM shows another host key than before. If it was made anew, remove its line: ssh-keygen -f '${file}' -R ${name}`,
    );
  }
  appendFileSync(file, `${name} ${hostKey}\n`, { mode: 0o600 });
}
