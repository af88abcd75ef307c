import { expect, test } from "vitest";
import { feedPong, readPong } from "../../protocol/feed.ts";
import { FeedNumbers } from "../../protocol/feed-numbers.ts";

test("nothing is missing after a welcome, and each floor that comes is one more", () => {
  const numbers = new FeedNumbers();
  numbers.begin(7);
  expect(numbers.hasAll(7)).toBe(true);
  expect(numbers.hasAll(8)).toBe(false);
  numbers.arrived(8);
  expect(numbers.hasAll(8)).toBe(true);
});

test("a gap is noticed by the next floor and by the next heartbeat, and closed by the late one", () => {
  const numbers = new FeedNumbers();
  numbers.begin(0);
  numbers.arrived(2);
  expect([numbers.hasAll(null), numbers.hasAll(1), numbers.hasAll(2)]).toEqual([false, false, false]);
  numbers.arrived(1);
  expect(numbers.hasAll(2)).toBe(true);
});

test("repeated and old floors change nothing", () => {
  const numbers = new FeedNumbers();
  numbers.begin(3);
  for (const number of [1, 3, 4, 4, 2]) numbers.arrived(number);
  expect([numbers.hasAll(4), numbers.hasAll(5)]).toEqual([true, false]);
});

test("a heartbeat's answer is read with its number, without one, and not at all when it is something else", () => {
  expect(readPong(feedPong(12))).toBe(12);
  expect(readPong("pong")).toBeNull();
  for (const text of ["", "pong ", "pong -1", "pong 1.5", "ping", "pong 1 2", '{"type":"floor"}'])
    expect(readPong(text)).toBeUndefined();
});
