import { availableParallelism, totalmem } from "node:os";
import type { FeedUpstream } from "../protocol/feed.ts";
import type { Log } from "../service/log.ts";
import type { DiskRoom } from "./disk-room.ts";

export type HostLoad = Extract<FeedUpstream, { type: "host-load" }>;

const MIB = 1024 * 1024;

/** A change of memory or disk below this share of what was told is not told. */
const WORTH_TELLING = 0.05;

/** What this machine has: processors that may be used, and memory in MiB. */
export function hostSize(): { readonly cpus: number; readonly memory: number } {
  // 0 or more than there is: nothing limits this process.
  const limit = process.constrainedMemory();
  const bytes = limit > 0 && limit < totalmem() ? limit : totalmem();
  return { cpus: availableParallelism(), memory: Math.floor(bytes / MIB) };
}

/** What it has left for VMs. */
export async function measureLoad(disk: DiskRoom, running: number): Promise<HostLoad> {
  const freeMemory = Math.floor(process.availableMemory() / MIB);
  return { type: "host-load", freeMemory, freeDisk: await disk.left(), running };
}

/** Tells the region what this host has left: at once when asked to, and else whenever it has changed by much. */
export class LoadReporter {
  readonly #measure: () => Promise<HostLoad>;
  readonly #report: (load: HostLoad) => void;
  readonly #log: Log;
  #told: HostLoad | null = null;

  constructor(measure: () => Promise<HostLoad>, report: (load: HostLoad) => void, log: Log) {
    this.#measure = measure;
    this.#report = report;
    this.#log = log;
  }

  /** Never rejects. `always`: whether or not it has changed. */
  async tell(always: boolean): Promise<void> {
    try {
      const load = await this.#measure();
      if (!always && this.#told !== null && !isNews(this.#told, load)) return;
      this.#told = load;
      this.#report(load);
    } catch (error) {
      this.#log.warn("the host's load could not be measured", { error: String(error) });
    }
  }
}

function isNews(told: HostLoad, now: HostLoad): boolean {
  const moved = (before: number, after: number) => Math.abs(after - before) > before * WORTH_TELLING;
  return now.running !== told.running || moved(told.freeMemory, now.freeMemory) || moved(told.freeDisk, now.freeDisk);
}
