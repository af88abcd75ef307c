import { expect, test } from "vitest";
import { OffLoop } from "../../forwarder/off-loop.ts";

function job() {
  const done = Promise.withResolvers<string>();
  let begun = false;
  const work = () => {
    begun = true;
    return done.promise;
  };
  return { work, ...done, isBegun: () => begun };
}

test("no more is computed at once than is said, and in the order in which it was asked for", async () => {
  const offLoop = new OffLoop(2);
  const jobs = [job(), job(), job(), job()];
  const results = jobs.map(({ work }) => offLoop.run(work));
  const begun = () => jobs.map(({ isBegun }) => isBegun());
  expect(begun()).toEqual([true, true, false, false]);
  jobs[1]?.resolve("second");
  expect(await results[1]).toBe("second");
  expect(begun()).toEqual([true, true, true, false]);
  for (const { resolve } of jobs) resolve("done");
  await Promise.all(results);
  expect(begun()).toEqual([true, true, true, true]);
});

test("what fails makes room for what waits, and fails for whoever asked for it alone", async () => {
  const offLoop = new OffLoop(1);
  const [bad, good] = [job(), job()];
  const [failed, well] = [offLoop.run(bad.work), offLoop.run(good.work)];
  bad.reject(new Error("broken"));
  await expect(failed).rejects.toThrow("broken");
  good.resolve("well");
  expect(await well).toBe("well");
});
