import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { judgeOutage, RunningTime, type Standing } from "../../service/outage.ts";

const BOUNDS = { unconfirmedMs: 300_000, lastAskingMs: 20_000 };
const HEARD = 1_900_000_000_000;

/** A session of which nothing was heard for `ageMs`, and that was asked about in vain for `askedMs`; null: not yet. */
function judge(ageMs: number, askedMs: number | null, more: Partial<Standing> = {}) {
  const [now, running] = [HEARD + ageMs, 1_000_000];
  const askingSince = askedMs === null ? null : running - askedMs;
  return judgeOutage({ now, confirmedAt: [HEARD], running, askingSince, ...more }, BOUNDS);
}

describe("a session that nobody can be asked about", () => {
  test.each([
    [0, null, "confirmed"],
    [279_999, null, "confirmed"],
    [280_000, null, "last-asking"],
    [299_999, 20_000, "last-asking"],
    [300_000, 20_000, "end"],
    [3_600_000, 20_000, "end"],
  ] as const)("%i ms after it was confirmed, asked about for %s ms: %s", (ageMs, askedMs, expected) => {
    expect(judge(ageMs, askedMs)).toBe(expected);
  });

  test("is asked about for the whole of the last asking, however long its machine was asleep", () => {
    const hour = 3_600_000;
    expect([judge(hour, null), judge(hour, 0), judge(hour, 19_999), judge(hour, 20_000)]).toEqual([
      "last-asking",
      "last-asking",
      "last-asking",
      "end",
    ]);
  });

  test("goes by whatever confirmed it last, in whichever order", () => {
    for (const confirmedAt of [
      [HEARD, HEARD + 290_000],
      [HEARD + 290_000, HEARD],
      [Number.NEGATIVE_INFINITY, HEARD + 290_000],
    ])
      expect(judge(300_000, 20_000, { confirmedAt })).toBe("confirmed");
  });

  test("is not confirmed by what was heard before the clock was set back, nor when nothing ever was", () => {
    for (const confirmedAt of [[HEARD, HEARD + 900_000], [HEARD + 900_000], [Number.NEGATIVE_INFINITY]])
      expect(judge(300_000, 20_000, { confirmedAt })).toBe("end");
  });
});

test("running time is what passes between looks; a look that comes late counts as one in time, and as no more", () => {
  const time = new RunningTime(2_000, 7_000);
  expect([9_000, 10_500, 3_610_500, 3_612_500].map((at) => time.look(at))).toEqual([2_000, 3_500, 5_500, 7_500]);
});

test("in whatever order time passes, machines sleep and the edge answers: nobody ends within the bound, or runs past it by more than a look", () => {
  const lookMs = 2_000;
  const step = fc.record({
    /** For how long nobody ran before this look, in milliseconds. */
    asleepMs: fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, fc.integer({ min: 0, max: 7_200_000 })),
    isConfirmed: fc.oneof({ weight: 40, arbitrary: fc.constant(false) }, fc.boolean()),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400, size: "max" }), (steps) => {
      const time = new RunningTime(lookMs, 0);
      let [now, confirmedAt, confirmedRunning] = [HEARD, HEARD, 0];
      let askingSince: number | null = null;
      for (const { asleepMs, isConfirmed } of steps) {
        now += lookMs + asleepMs;
        const running = time.look(now - HEARD);
        if (isConfirmed) [confirmedAt, confirmedRunning] = [now, running];
        const judgement = judgeOutage({ now, confirmedAt: [confirmedAt], running, askingSince }, BOUNDS);
        if (judgement === "end") {
          expect(now - confirmedAt).toBeGreaterThanOrEqual(BOUNDS.unconfirmedMs);
          return;
        }
        askingSince = judgement === "confirmed" ? null : (askingSince ?? running);
        expect(running - confirmedRunning).toBeLessThan(BOUNDS.unconfirmedMs + lookMs);
      }
    }),
    { numRuns: 300 },
  );
});
