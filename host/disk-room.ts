import { statfs } from "node:fs/promises";
import type { Result } from "../protocol/failures.ts";
import type { Log } from "../service/log.ts";
import { diskFull } from "./disk-full.ts";
import type { Driver } from "./driver.ts";
import type { HostSettings } from "./settings.ts";

const MIB = 1024 * 1024;

export interface DiskRoomOptions {
  /** A folder on the disk that VMs fill. */
  readonly dir: string;
  /** What is kept from them, MiB, so that the host itself goes on. */
  readonly reserveMib: number;
  readonly log: Log;
  /** Files that are kept from them likewise: a file system may run out of those first. */
  readonly reserveFiles: number;
  /** What is free; the file system's own answer unless a test has another. */
  readonly look?: () => Promise<DiskFree>;
}

export interface DiskFree {
  readonly bytes: number;
  /** Files that can still be made; infinite where they are made as they come. */
  readonly files: number;
}

/** What VMs may still fill of a host's disk. Below its reserve a host makes, wakes and captures nothing. */
export class DiskRoom {
  readonly #options: DiskRoomOptions;
  #wasFull = false;

  constructor(options: DiskRoomOptions) {
    this.#options = options;
  }

  /** What is free beyond the reserve, MiB; 0 while the disk counts as full. Says in the log when that begins and ends. */
  async left(): Promise<number> {
    const { dir, reserveMib, reserveFiles, log, look = () => freeOn(dir) } = this.#options;
    const { bytes, files } = await look();
    const isFull = bytes < reserveMib * MIB || files < reserveFiles;
    if (isFull && !this.#wasFull) log.error("the disk is full: no VM is made, woken or captured", { dir, bytes, files });
    if (!isFull && this.#wasFull) log.info("the disk has room again", { dir, bytes, files });
    this.#wasFull = isFull;
    return isFull ? 0 : Math.floor(bytes / MIB) - reserveMib;
  }

  /** Whether it was full at the last look. */
  get wasFull(): boolean {
    return this.#wasFull;
  }

  /** `host-disk-full` with what was not done, or null while there is room. A disk that does not answer refuses nobody: what comes next finds out. */
  async refusal(what: string): Promise<Result<never> | null> {
    const answered = await this.left().then(
      () => true,
      () => false,
    );
    return answered && this.#wasFull ? diskFull(what) : null;
  }
}

/** Of a host with these settings. Machines that were there before us (`driver.existing`) have disks elsewhere. */
export function diskRoomOf(settings: HostSettings, driver: Driver, log: Log): DiskRoom {
  const reserve = (wanted: number) => (driver.existing === undefined ? wanted : 0);
  return new DiskRoom({
    dir: settings.POSTERN_HOST_STATE,
    reserveMib: reserve(settings.POSTERN_HOST_DISK_RESERVE_MIB),
    reserveFiles: reserve(settings.POSTERN_HOST_FILES_RESERVE),
    log,
  });
}

async function freeOn(dir: string): Promise<DiskFree> {
  const { bavail, bsize, ffree, files } = await statfs(dir);
  return { bytes: bavail * bsize, files: files === 0 ? Number.POSITIVE_INFINITY : ffree };
}
