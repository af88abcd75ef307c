import { closeSync, fsyncSync, openSync, renameSync, writeSync } from "node:fs";

/** Writes a file that only its owner may read (mode 0600), so that a crash leaves either the old content or the new. */
export function writeFileAtomically(path: string, content: string): void {
  const temporary = `${path}.new`;
  const file = openSync(temporary, "w", 0o600);
  try {
    writeSync(file, content);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
}
