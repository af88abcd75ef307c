import { beforeEach, expect, test } from "vitest";
import { RegionClock } from "../../service/region-clock.ts";

const START = 1_900_000_000_000;

let wall: number;
let passed: number;
let clock: RegionClock;
beforeEach(() => {
  [wall, passed] = [START, 7];
  clock = new RegionClock(
    () => wall,
    () => passed,
  );
});

/** Lets time pass; `set`: by how much somebody sets the wall clock meanwhile. Milliseconds, both. */
function pass(ms: number, set = 0): void {
  passed += ms;
  wall += ms + set;
}

test("is the machine's own before the region has said its time", () => {
  pass(500);
  expect(clock.now()).toBe(START + 500);
});

test.each([-30_000, 0, 30_000])("is the region's from its welcome on, when the machine is %i ms off", (offMs) => {
  pass(0, offMs);
  const sentAt = clock.now();
  pass(40);
  expect(clock.heard(START, sentAt)).toBe(START - sentAt);
  expect(clock.now()).toBe(START + 40);
  pass(3_600_000);
  expect(clock.now()).toBe(START + 3_600_040);
});

test("does not go back when the machine's clock is set back, once or again", () => {
  pass(2_000, -30_000);
  expect(clock.now()).toBe(START + 2_000);
  pass(2_000, -2_000);
  expect(clock.now()).toBe(START + 4_000);
  expect(clock.takeSetAhead()).toBe(false);
});

test("follows small corrections, which keep a clock right", () => {
  for (let count = 0; count < 100; count += 1) {
    pass(1_000, -500);
    clock.now();
  }
  expect(clock.now()).toBe(wall);
});

test("follows a clock that is set ahead, as that of a machine that was asleep is, and says so once", () => {
  pass(0, 3_600_000);
  expect(clock.now()).toBe(START + 3_600_000);
  expect([clock.takeSetAhead(), clock.takeSetAhead()]).toEqual([true, false]);
});
