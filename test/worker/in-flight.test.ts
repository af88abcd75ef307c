import { describe, expect, it } from "vitest";
import { success } from "../../protocol/failures.ts";
import { failureAnswer } from "../../worker/http/answers.ts";
import { InFlight } from "../../worker/limits/in-flight.ts";
import { type AskLimits, askOne } from "../../worker/objects.ts";
import { readSettings } from "../../worker/settings.ts";
import { freshName, must } from "../durable-objects/objects.ts";

const LIMITS: AskLimits = { OBJECT_MAX_INFLIGHT: 4, OBJECT_PATIENCE_MS: 10_000 };

describe("questions to one object", () => {
  it("over the limit are told at once to come back: 503 with Retry-After, never 401; the others are answered", async () => {
    const name = freshName();
    const gate = Promise.withResolvers<void>();
    const asked = Array.from({ length: 10 }, () => askOne(name, LIMITS, () => gate.promise.then(() => success("yes"))));
    const shed = await Promise.all(asked.slice(4));
    expect(new Set(shed.map((result) => (result.ok ? "ok" : result.failure.kind)))).toEqual(new Set(["authority-unavailable"]));
    for (const result of shed) {
      const answer = result.ok ? null : failureAnswer(result.failure, "v1", readSettings({}));
      expect([answer?.status, answer?.headers.get("retry-after")]).toEqual([503, "2"]);
    }
    gate.resolve();
    expect((await Promise.all(asked.slice(0, 4))).map(must)).toEqual(["yes", "yes", "yes", "yes"]);
    expect(must(await askOne(name, LIMITS, async () => success("again")))).toBe("again");
  });

  it("that fail make room too, and those to other objects are not touched", async () => {
    const name = freshName();
    for (let count = 0; count < 10; count += 1) {
      await expect(askOne(name, LIMITS, () => Promise.reject(Object.assign(new Error("bug"), { remote: true })))).rejects.toThrow();
    }
    const never = Array.from({ length: 4 }, () => askOne(name, LIMITS, () => new Promise(() => undefined)));
    expect(must(await askOne(freshName(), LIMITS, async () => success("other")))).toBe("other");
    expect(never).toHaveLength(4);
  });
});

describe("the count of what is under way", () => {
  it("forgives those whose end was never told, and keeps nothing of what is done", () => {
    const inFlight = new InFlight();
    expect([inFlight.enter("a", 2, 100, 0), inFlight.enter("a", 2, 100, 50)].includes(null)).toBe(false);
    expect(inFlight.enter("a", 2, 100, 100)).toBe(null);
    const late = inFlight.enter("a", 2, 100, 101);
    expect(late).not.toBe(null);
    const other = inFlight.enter("b", 1, 100, 0);
    expect(inFlight.enter("b", 1, 100, 1)).toBe(null);
    other?.();
    other?.();
    expect(inFlight.enter("b", 1, 100, 1)).not.toBe(null);
  });
});
