import { join } from "node:path";
import type { Progress } from "../../driver.ts";
import { runCommand } from "../../network/run-command.ts";

const HOST = join(import.meta.dirname, "..", "..");

/** What virtual machines boot from. None of it is ever written to again. */
export interface VmImage {
  /** Its name, which says what it was made of. */
  readonly key: string;
  readonly kernel: string;
  readonly initrd: string;
  /** The disk that every machine's own stands on. */
  readonly disk: string;
}

/** Builds the image if this recipe's is not there yet. Slow the first time. */
export async function ensureVmImage(cacheDir: string, diskGib: number, progress: Progress): Promise<VmImage> {
  const options = { onStderrLine: progress };
  const rootfs = (await runCommand("image", join(HOST, "guest-image", "build-rootfs.sh"), [cacheDir], options)).trim();
  const script = join(HOST, "qemu-image", "build-image.sh");
  const dir = (await runCommand("image", script, [cacheDir, rootfs, String(diskGib)], options)).trim();
  return { key: dir, kernel: join(dir, "kernel"), initrd: join(dir, "initrd"), disk: join(dir, "disk.raw") };
}

/** Makes a disk that takes what differs from another one. */
export async function standOn(base: string, format: "raw" | "qcow2", disk: string): Promise<void> {
  await runCommand("image", "qemu-img", ["create", "-q", "-f", "qcow2", "-F", format, "-b", base, disk]);
}

/** Copies a disk that nobody writes to meanwhile, holes and all; at once where the file system shares blocks. */
export async function copyDisk(from: string, to: string): Promise<void> {
  await runCommand("image", "cp", ["--reflink=auto", "--sparse=always", from, to]);
}
