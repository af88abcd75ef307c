import type { Result } from "../protocol/failures.ts";
import type { MachineStatus } from "../protocol/host-api.ts";
import { MAX_REPORTED_STATES, type MachineStatesAnswer, type MachineStatesReport } from "../protocol/service-api.ts";
import { pause } from "../service/pause.ts";

/** Passes a report to the edge. A failure means that nobody knows whether it arrived. */
export interface StateReceiver {
  reportStates(report: MachineStatesReport, signal: AbortSignal): Promise<Result<MachineStatesAnswer>>;
}

export interface StateReporterOptions {
  readonly receiver: StateReceiver;
  /** First wait before telling again, and the longest that it doubles to, in milliseconds. */
  readonly retryMs: number;
  readonly retryMaxMs: number;
  /** When closing: longest wait until what changed last is told, in milliseconds. */
  readonly closeMs: number;
  /** A number in [0, 1), so that hosts which failed together do not all come back together. */
  readonly random: () => number;
}

type Told = Pick<MachineStatus, "state" | "at">;

/**
 * Tells the edge how each machine is: the newest state of each, one report at a time, until the edge has said that it noted it. So a
 * host never asks more of the edge than one report, however much changes or however long the edge was away.
 */
export class StateReporter {
  readonly #options: StateReporterOptions;
  /** By VM id; who waits longest comes first. */
  readonly #untold = new Map<string, Told>();
  readonly #closing = new AbortController();
  readonly #gaveUp = new AbortController();
  #telling: Promise<void> | null = null;

  constructor(options: StateReporterOptions) {
    this.#options = options;
  }

  /** Returns at once. */
  note(vm: string, { state, at }: Told): void {
    this.#untold.set(vm, { state, at });
    this.#telling ??= this.#tellAll();
  }

  /** Tells what is left, but tries nothing twice any more, and waits for no longer than it may. */
  async close(): Promise<void> {
    this.#closing.abort();
    const limit = setTimeout(() => this.#gaveUp.abort(), this.#options.closeMs);
    await this.#telling;
    clearTimeout(limit);
  }

  async #tellAll(): Promise<void> {
    const { retryMs, retryMaxMs, random } = this.#options;
    let waitMs = retryMs;
    while (this.#untold.size > 0) {
      if (await this.#tellSome()) {
        waitMs = retryMs;
        continue;
      }
      if (this.#closing.signal.aborted) break;
      await pause(waitMs / 2 + random() * (waitMs / 2), this.#closing.signal);
      waitMs = Math.min(waitMs * 2, retryMaxMs);
    }
    // In the same breath as the last look: what is noted from now on begins anew, and nothing can come in between.
    this.#telling = null;
  }

  /** One report; whether any of it was noted. */
  async #tellSome(): Promise<boolean> {
    const some = [...this.#untold].slice(0, MAX_REPORTED_STATES);
    const states = some.map(([vm, told]) => ({ vm, ...told }));
    const answer = await this.#options.receiver.reportStates({ states }, this.#gaveUp.signal);
    if (!answer.ok) return false;
    const failed = new Set(answer.value.untold);
    for (const [vm, told] of some) {
      // What has changed since is still to be told.
      if (this.#untold.get(vm) !== told) continue;
      this.#untold.delete(vm);
      // Behind the others, so that those which fail hold up nobody.
      if (failed.has(vm)) this.#untold.set(vm, told);
    }
    return failed.size < some.length;
  }
}
