import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { RandomBytes } from "../protocol/bytes.ts";
import { isObjectName, newObjectName } from "../protocol/ids.ts";
import { writeFileAtomically } from "../service/atomic-file.ts";

/** The host's stable id, `[a-z2-7]{16}`: made at the first start and kept in the state folder ever after. */
export function keepHostId(stateDir: string, randomBytes: RandomBytes): string {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const path = join(stateDir, "host-id");
  const known = readIfThere(path)?.trim();
  if (known !== undefined) {
    // A new id would orphan every VM that is placed here, so a damaged file is for a person to look at.
    if (!isObjectName(known)) throw new Error(`${path} does not hold a host id`);
    return known;
  }
  const id = newObjectName(randomBytes);
  writeFileAtomically(path, `${id}\n`);
  return id;
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
