import { expect, test } from "vitest";
import { limitLines } from "../../service/limited-log.ts";
import { createLog } from "../../service/log.ts";

function limited(linesPerSecond: number) {
  const lines: Record<string, unknown>[] = [];
  const clock = { now: 0 };
  const log = createLog((line) => lines.push(JSON.parse(line) as Record<string, unknown>));
  return { lines, clock, log: limitLines(log, linesPerSecond, () => clock.now) };
}

test("no more lines than allowed are written in a second, whichever child of the log they are of, and the next says how many are missing", () => {
  const { lines, clock, log } = limited(3);
  for (let line = 0; line < 10; line += 1) log.child({ session: `s${line}` }).info("turned away");
  expect(lines.map(({ session }) => session)).toEqual(["s0", "s1", "s2"]);
  expect(lines.every((line) => !("leftOut" in line))).toBe(true);
  clock.now = 1_000;
  log.warn("turned away");
  log.info("turned away");
  expect(lines.slice(3).map(({ level, leftOut }) => [level, leftOut])).toEqual([
    ["warn", 7],
    ["info", undefined],
  ]);
});

test("with a limit of no lines nothing is written", () => {
  const { lines, log } = limited(0);
  log.error("turned away");
  expect(lines).toEqual([]);
});
