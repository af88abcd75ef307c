import { Session } from "node:inspector/promises";

const OURS = /\/(protocol|forwarder|service|test\/fuzz)\//;

/** Which ways through our code have been taken, as V8 itself counts them (Profiler.startPreciseCoverage of its inspector protocol). */
export class Coverage {
  readonly #session = new Session();
  readonly #seen = new Set<string>();

  async start(): Promise<void> {
    this.#session.connect();
    await this.#session.post("Profiler.enable");
    await this.#session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  /** Ways through functions seen so far. */
  get ways(): number {
    return this.#seen.size;
  }

  /** Whether what ran since the last call took a way through some function that had not been taken before. */
  async grew(): Promise<boolean> {
    const { result } = await this.#session.post("Profiler.takePreciseCoverage");
    const before = this.#seen.size;
    for (const { url, functions } of result) {
      if (!OURS.test(url)) continue;
      for (const { ranges } of functions) {
        // V8 tells the blocks whose count differs from the one around them: together they say which ran and which did not.
        const way = ranges.map(({ startOffset, endOffset, count }) => `${startOffset}-${endOffset}${count > 0 ? "+" : "-"}`);
        this.#seen.add(`${url} ${way.join(" ")}`);
      }
    }
    return this.#seen.size > before;
  }
}
