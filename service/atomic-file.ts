import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";

/** Writes a file that only its owner may read (mode 0600), so that a crash or a full disk leaves either the old content or the new. */
export function writeFileAtomically(path: string, content: string): void {
  const temporary = `${path}.new`;
  try {
    const file = openSync(temporary, "w", 0o600);
    try {
      // All of it: `writeSync` may write a part of it to a disk that is about to be full, without an error.
      writeFileSync(file, content);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
