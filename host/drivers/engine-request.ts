import { mkdir, rm } from "node:fs/promises";
import type Docker from "dockerode";
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

/** Makes a request that ends a guest; once more if podman 5 fails it because the guest's monitor was killed, which it has noted by then. */
export async function despiteLostMonitor<T>(request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    if (!String(error).includes("conmon exited prematurely")) throw error;
    return request();
  }
}

/** Makes a request that starts a machine; once more if what an engine left that was killed is in the way, which is mended first. */
export async function startDespiteLeftovers<T>(home: PodmanHome, request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    if (!(await mend(home, String(error)))) throw error;
    return request();
  }
}

/**
 * Mends what makes every start of a machine fail. An engine that is killed between unmounting a disk and writing that down leaves a
 * record that it is mounted (containers/storage, `layerStore.Mount`: lstat of the recorded mount point): with the directory back, it
 * sees that nothing is mounted on it, and mounts. A runtime that is killed between making its process file and giving it its name leaves
 * the file (runc, `createPidFile`), which the next one would make anew. False: it was something else.
 */
async function mend({ diskDir, runDir }: PodmanHome, failure: string): Promise<boolean> {
  const mountPoint = lostMountPoint(failure, diskDir);
  if (mountPoint !== null) await mkdir(mountPoint, { mode: 0o700 });
  const pidFile = leftPidFile(failure, runDir);
  if (pidFile !== null) await rm(pidFile, { force: true });
  return mountPoint !== null || pidFile !== null;
}

/** The process file under `runDir` that a failure of the runtime names as being there already, or null for any other failure. */
export function leftPidFile(failure: string, runDir: string): string | null {
  const path = /runc create failed: open (\S+): file exists/.exec(failure)?.[1] ?? "";
  const container = path.startsWith(`${runDir}/run/overlay-containers/`)
    ? path.slice(`${runDir}/run/overlay-containers/`.length)
    : "";
  return /^[0-9a-f]{64}\/userdata\/\.pidfile$/.test(container) ? path : null;
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

/** Id of the image that a failure names as one that lacks parts, since its making was interrupted, or null for any other failure. */
export function damagedImage(error: unknown): string | null {
  return /for image with ID "([0-9a-f]{64})" \(consider removing the image/.exec(String(error))?.[1] ?? null;
}

/**
 * podman's own API, for what its Docker-compatible one lacks. `options` is the body, or what follows the question mark with which the
 * path of a look ends.
 */
export function ownApi(docker: Docker, path: string, options: object, method: "GET" | "POST" = "POST"): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const statusCodes = { 200: true, 201: true, 404: "not found", 409: "conflict", 500: "server error" };
    docker.modem.dial({ path: `/v4.0.0/libpod/${path}`, method, statusCodes, options }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}
