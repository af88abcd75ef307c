import { expect, it } from "vitest";
import { TimeLimits } from "../../worker/http/time-limits.ts";

const never = new Promise<never>(() => undefined);
const later = (ms: number) => new Promise<string>((resolve) => setTimeout(() => resolve("done"), ms));

it("a limit that passes ends the wait, whichever limits began before or after it", async () => {
  const limits = new TimeLimits();
  const order: string[] = [];
  const wait = async (name: string, ms: number) => {
    expect(await limits.within(ms, never)).toBeNull();
    order.push(name);
  };
  await Promise.all([wait("long", 120), wait("short", 10), wait("middle", 60)]);
  expect(order).toEqual(["short", "middle", "long"]);
});

it("what is done in time is answered, and its limit says nothing any more", async () => {
  const limits = new TimeLimits();
  let isLate = false;
  const kept = limits.begin(20, () => {
    isLate = true;
  });
  expect(await limits.within(10_000, later(1))).toBe("done");
  kept();
  expect(await limits.within(60, never)).toBeNull();
  expect(isLate).toBe(false);
});

it("a failure of the work is the caller's", async () => {
  const failing = Promise.reject(new Error("broken"));
  await expect(new TimeLimits().within(1_000, failing)).rejects.toThrow("broken");
});
