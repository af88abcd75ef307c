import type { Clock } from "../protocol/bytes.ts";
import { failure, type Result, success } from "../protocol/failures.ts";
import type { ExecAnswer } from "../protocol/host-api.ts";
import { isBackgroundId } from "../protocol/ids.ts";
import type { Log } from "../service/log.ts";
import { messageOf } from "../service/message-of.ts";
import { diskFull } from "./disk-full.ts";
import { type JobRecord, JobStore } from "./job-store.ts";

/** Whose job it is: all of it comes from the ticket. To anybody else it does not exist. */
export interface JobOwner {
  readonly vmId: string;
  readonly linuxUser: string;
  readonly subject: string;
}

/** Where a job is: it runs, or this came of it. */
export type JobState = { readonly kind: "running" } | { readonly kind: "ended"; readonly result: Result<ExecAnswer> };

export interface JobLimits {
  /** How long the result of a job is kept after its end, in milliseconds. */
  readonly keepMs: number;
  /** Jobs that run in one VM at once. */
  readonly perVm: number;
  /** Most bytes of all results that are kept; over it the oldest goes first. */
  readonly resultBytes: number;
}

interface RunningJob extends JobOwner {
  readonly id: string;
  readonly result: Promise<Result<ExecAnswer>>;
  /** Somebody was told to come back for the result: it will be kept. */
  isAwaited: boolean;
}

const RUNNING: JobState = { kind: "running" };

const NOT_FOUND = failure("background-request-not-found", "There is no such job of yours.");

const CUT_SHORT = failure(
  "host-unavailable",
  "The host was restarted while the command ran. It was ended with its VM, or may have done its work.",
);

const NOT_KEPT = diskFull("The command has ended, but its result could not be kept.");

const BETWEEN_SWEEPS_MS = 30_000;

/**
 * Commands that go on when whoever asked has gone. The edge gives each an id, under which it is begun once however often
 * it is asked for, and asked about later. Results are on disk, so that they outlive the agent and cost no memory.
 */
export class Jobs {
  readonly #limits: JobLimits;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #store: JobStore;
  readonly #running = new Map<string, RunningJob>();
  readonly #kept = new Map<string, JobRecord>();
  readonly #writes = new Set<Promise<void>>();
  readonly #sweeper: NodeJS.Timeout;

  constructor(stateDir: string, limits: JobLimits, clock: Clock, log: Log) {
    this.#limits = limits;
    this.#clock = clock;
    this.#log = log;
    this.#store = new JobStore(stateDir);
    for (const record of this.#store.list()) this.#restore(record);
    this.#sweeper = setInterval(() => this.#forgetOld(), BETWEEN_SWEEPS_MS);
    this.#sweeper.unref();
  }

  /**
   * Begins a job, unless it was begun already, and waits for its end for at most `waitMs`. A result that is handed out here
   * is not kept. `work` is never told that the caller left.
   */
  async run(id: string, owner: JobOwner, waitMs: number, work: () => Promise<Result<ExecAnswer>>): Promise<Result<JobState>> {
    if (!isBackgroundId(id)) return failure("bad-request", "A job's id is ri- and 20 lower-case letters and digits.");
    if (this.#kept.has(id)) return this.look(id, owner);
    const known = this.#running.get(id);
    if (known !== undefined && !isOwned(known, owner)) return NOT_FOUND;
    if (known === undefined && this.#countIn(owner.vmId) >= this.#limits.perVm) {
      return failure("vm-busy", `At most ${this.#limits.perVm} commands run in the background of a VM at once.`);
    }
    const job = known ?? this.#begin(id, owner, work);
    const result = await endOf(job.result, waitMs);
    if (result !== null) return success({ kind: "ended", result });
    // It ended just now, so nothing is left to come back for.
    if (!this.#running.has(id)) return success({ kind: "ended", result: await job.result });
    job.isAwaited = true;
    try {
      this.#store.save({ id, ...owner, endedAt: null, bytes: 0 });
    } catch (error) {
      // The command runs all the same: only if this process dies will nobody know of it.
      this.#log.error("a job was not noted", { job: id, error: messageOf(error) });
    }
    return success(RUNNING);
  }

  /** Where a job is that somebody was told to come back for. */
  async look(id: string, owner: JobOwner): Promise<Result<JobState>> {
    const running = this.#running.get(id);
    if (running !== undefined) return isOwned(running, owner) ? success(RUNNING) : NOT_FOUND;
    this.#forgetOld();
    const kept = this.#kept.get(id);
    if (kept === undefined || !isOwned(kept, owner)) return NOT_FOUND;
    return success({ kind: "ended", result: await this.#store.result(id).catch(() => NOT_KEPT) });
  }

  /** Waits until every result that somebody waits for is written. Whatever runs must have been ended before. */
  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    await Promise.allSettled([...this.#running.values()].map(({ result }) => result));
    await Promise.allSettled(this.#writes);
  }

  #begin(id: string, owner: JobOwner, work: () => Promise<Result<ExecAnswer>>): RunningJob {
    const result = work().catch((error: unknown) => {
      this.#log.error("a job failed", { job: id, error: messageOf(error) });
      return failure("internal", "The host failed. The trace id names the failure in its log.");
    });
    const job: RunningJob = { id, ...owner, result, isAwaited: false };
    this.#running.set(id, job);
    const written = result.then((ended) => this.#ended(job, ended)).finally(() => this.#writes.delete(written));
    this.#writes.add(written);
    return job;
  }

  async #ended(job: RunningJob, result: Result<ExecAnswer>): Promise<void> {
    const { id, vmId, linuxUser, subject } = job;
    if (job.isAwaited) await this.#keep({ id, vmId, linuxUser, subject, endedAt: null, bytes: 0 }, result);
    this.#running.delete(id);
  }

  /** Never rejects: a result that finds no room is remembered as such. */
  async #keep(record: JobRecord, result: Result<ExecAnswer>): Promise<void> {
    try {
      this.#kept.set(record.id, await this.#store.finish(record, result, this.#clock()));
    } catch (error) {
      this.#log.error("a job's result was not written", { job: record.id, error: messageOf(error) });
      this.#kept.set(record.id, { ...record, endedAt: this.#clock() });
    }
    this.#forgetOld();
  }

  /** A job without a result was cut short by the end of an earlier agent. */
  #restore(record: JobRecord): void {
    if (record.endedAt !== null) this.#kept.set(record.id, record);
    else {
      const written = this.#keep(record, CUT_SHORT).finally(() => this.#writes.delete(written));
      this.#writes.add(written);
    }
  }

  #forgetOld(): void {
    const oldest = this.#clock() - this.#limits.keepMs;
    const newestFirst = [...this.#kept.values()].sort((one, other) => (other.endedAt ?? 0) - (one.endedAt ?? 0));
    let bytes = 0;
    for (const { id, endedAt, bytes: size } of newestFirst) {
      bytes += size;
      if ((endedAt ?? 0) > oldest && bytes <= this.#limits.resultBytes) continue;
      this.#kept.delete(id);
      this.#store.remove(id);
    }
  }

  #countIn(vmId: string): number {
    return [...this.#running.values()].filter((job) => job.vmId === vmId).length;
  }
}

function isOwned(job: JobOwner, { vmId, linuxUser, subject }: JobOwner): boolean {
  return job.vmId === vmId && job.linuxUser === linuxUser && job.subject === subject;
}

async function endOf<T>(result: Promise<T>, waitMs: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), waitMs);
  });
  const first = await Promise.race([result, limit]);
  clearTimeout(timer);
  return first;
}
