import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "../system/poll.ts";

/**
 * Moves the clock of a process of Node: loaded into it by `NODE_OPTIONS`, this file reads from another by how many milliseconds.
 * Used from a test it writes that one.
 */

const FILE = "POSTERN_TEST_CLOCK_FILE";
const READ_MS = 20;
const TAKEN_MS = 10_000;

const file = process.env[FILE];
if (file !== undefined) shift(file);

/** The clock of one process that a test starts. */
export class ShiftedClock {
  /** What the process must have in its environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly #file: string;

  constructor(folder: string) {
    this.#file = join(folder, "clock");
    writeFileSync(this.#file, "0");
    this.env = { NODE_OPTIONS: `--import=${fileURLToPath(import.meta.url)}`, [FILE]: this.#file };
  }

  /** Sets it off by so much from now on, in milliseconds; resolves once the process goes by it. */
  async setOff(ms: number): Promise<void> {
    writeFileSync(this.#file, String(ms));
    await until("the process has taken its new clock", TAKEN_MS, () =>
      existsSync(takenBy(this.#file)) && readFileSync(takenBy(this.#file), "utf8") === String(ms) ? true : undefined,
    );
  }
}

function shift(from: string): void {
  const now = Date.now.bind(Date);
  let off = 0;
  let taken = "";
  Date.now = () => now() + off;
  setInterval(() => {
    const asked = readFileSync(from, "utf8");
    if (asked === "" || asked === taken) return;
    taken = asked;
    off = Number(asked);
    writeFileSync(takenBy(from), asked);
  }, READ_MS).unref();
}

function takenBy(clockFile: string): string {
  return `${clockFile}.taken`;
}
