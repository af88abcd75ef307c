import { createHash, randomBytes } from "node:crypto";
import { open, writeFile } from "node:fs/promises";
import { DriverError, type SeedFile } from "../../driver.ts";
import { tarOf } from "../tar.ts";

/** Size of a seed disk; the same for every machine, since a copy of the golden machine keeps the size that it has seen. */
const SEED_BYTES = 1024 ** 2;

/** Writes a seed disk: a tar of files that the guest puts in place once. */
export async function writeSeed(path: string, files: readonly SeedFile[], mtimeS: number): Promise<void> {
  const tar = tarOf(files, mtimeS);
  if (tar.length > SEED_BYTES) throw new DriverError("engine", `seed files of ${tar.length} bytes do not fit ${SEED_BYTES}`);
  await writeFile(path, Buffer.concat([tar, Buffer.alloc(SEED_BYTES - tar.length)]), { mode: 0o600 });
}

/** Empties a seed disk in place: a boot must not undo what became of the files, and secrets need not lie there. */
export async function clearSeed(path: string): Promise<void> {
  const file = await open(path, "r+");
  await file.write(Buffer.alloc(SEED_BYTES), 0, SEED_BYTES, 0);
  await file.close();
}

/** What every guest has: its resolvers, and a machine id that is its own without being random. */
export function systemFiles(vmId: string, nameservers: readonly string[]): readonly SeedFile[] {
  return [
    { path: "/etc/resolv.conf", mode: 0o644, content: nameservers.map((address) => `nameserver ${address}\n`).join("") },
    { path: "/etc/machine-id", mode: 0o444, content: `${createHash("sha256").update(vmId).digest("hex").slice(0, 32)}\n` },
  ];
}

/** Words with which a guest sets its clock and stirs its random state. */
export function timeAndSecret(now: number): readonly [string, string] {
  return [(now / 1000).toFixed(3), randomBytes(32).toString("hex")];
}
