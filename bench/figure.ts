import type { SystemAccess } from "../test/system/running-system.ts";

/** One measured figure beside what it is measured against, both in `unit`, from the same run. */
export interface Figure {
  readonly id: string;
  readonly value: number;
  readonly unit: string;
  readonly baseline: number;
  /** `value / baseline`. */
  readonly ratio: number;
}

/** One script of this folder: measures one figure against a started system. */
export interface Benchmark {
  readonly id: string;
  /** What the baseline is, for the table. */
  readonly against: string;
  measure(system: SystemAccess): Promise<{ readonly value: number; readonly unit: string; readonly baseline: number }>;
}

/** The middle value; of an even number of values the mean of the middle two. Needs at least one. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = sorted.slice(Math.floor((sorted.length - 1) / 2), Math.floor(sorted.length / 2) + 1);
  if (middle.length === 0) throw new Error("the median of nothing");
  return middle.reduce((sum, value) => sum + value, 0) / middle.length;
}

/** The value that `share` (0 to 1) of the values do not exceed, by nearest rank: of few values the largest. Needs at least one. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((left, right) => left - right);
  const value = sorted[Math.max(Math.ceil(share * sorted.length) - 1, 0)];
  if (value === undefined) throw new Error("the percentile of nothing");
  return value;
}
