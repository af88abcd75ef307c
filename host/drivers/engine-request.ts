import { mkdir } from "node:fs/promises";
import { messageOf } from "../../service/message-of.ts";
import { DriverError } from "../driver.ts";
import type { PodmanHome } from "./podman-home.ts";

export interface Tolerance {
  /** HTTP statuses that mean there was nothing to do or nothing there: the answer is then null. */
  readonly allow: readonly number[];
}

/** Makes a request of the engine. Throws `DriverError` `engine` with the engine's words after `what` when it fails. */
export async function attempt<T>(what: string, request: () => Promise<T>): Promise<T>;
export async function attempt<T>(what: string, request: () => Promise<T>, tolerance: Tolerance): Promise<T | null>;
export async function attempt<T>(what: string, request: () => Promise<T>, tolerance?: Tolerance): Promise<T | null> {
  try {
    return await request();
  } catch (error) {
    const status = error instanceof Error && "statusCode" in error ? error.statusCode : undefined;
    if (typeof status === "number" && tolerance?.allow.includes(status)) return null;
    throw new DriverError("engine", `${what}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * Makes a request that mounts a disk; once more if the engine's record says that the disk is mounted and its mount point is
 * gone. An engine that is killed between unmounting and writing that down leaves such a record, and every later mount then
 * fails (containers/storage, `layerStore.Mount`: lstat of the recorded mount point). With the directory back, the engine sees
 * that nothing is mounted on it, and mounts.
 */
export async function withMountPoint<T>(home: PodmanHome, request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    const path = lostMountPoint(String(error), home.diskDir);
    if (path === null) throw error;
    await mkdir(path, { mode: 0o700 });
    return request();
  }
}

/** The mount point under `diskDir` that a failure of the engine names as missing, or null for any other failure. */
export function lostMountPoint(failure: string, diskDir: string): string | null {
  const path = /mounting storage for container [0-9a-f]+: lstat (.+): no such file or directory/.exec(failure)?.[1] ?? "";
  const layer = path.startsWith(`${diskDir}/storage/overlay/`) ? path.slice(`${diskDir}/storage/overlay/`.length) : "";
  return /^[0-9a-f]{64}\/merged$/.test(layer) ? path : null;
}

/** Whether a create failed because something holds the machine's name. */
export function isNameTaken(error: unknown): boolean {
  return String(error).includes("name is already in use");
}

/** Whether an image is there by name and lacks parts, as one whose making was interrupted. */
export function isDamagedImage(error: unknown): boolean {
  return String(error).includes("consider removing the image");
}
