import fc from "fast-check";
import { expect, test } from "vitest";
import { ISOLATES } from "./edge.ts";
import { ALL_ON, type Switches, VERIFIERS, World } from "./world.ts";

/** The bound with the feed down (`docs/consistency.md`); with all messages delivered a floor takes no time in the model. */
const STALE_BOUND_MS = 20_000;
/** The same where a region could not be told: until the verdict from before and its tickets have ended. */
const UNTOLD_BOUND_MS = 85_000;
const RUNS = 20_000;

type Step =
  | { readonly do: "advance"; readonly ms: number }
  | { readonly do: "narrow" | "moveAndReturn" | "deploy" }
  | { readonly do: "widen" | "loseIsolate" | "loseLocation"; readonly isolate: number }
  | { readonly do: "stall" | "lose" | "repeat" | "cut" | "restart" | "reach"; readonly verifier: number }
  | { readonly do: "set"; readonly verifier: number; readonly skewMs: number }
  | { readonly do: "arrive"; readonly verifier: number; readonly isOutOfOrder: boolean }
  | { readonly do: "request"; readonly isolate: number; readonly verifier: number };

const isolate = fc.nat(ISOLATES - 1);
const verifier = fc.nat(VERIFIERS - 1);

/** Requests and time are what mostly happens. */
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("request" as const), isolate, verifier }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("advance" as const), ms: fc.constantFrom(500, 1_500, 3_000, 9_000, 25_000) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("stall" as const), verifier }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("arrive" as const), verifier, isOutOfOrder: fc.boolean() }) },
  { weight: 2, arbitrary: fc.constant({ do: "narrow" as const }) },
  { weight: 1, arbitrary: fc.constant({ do: "moveAndReturn" as const }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("widen" as const), isolate }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("lose" as const, "repeat" as const), verifier }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("cut" as const, "restart" as const), verifier }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reach" as const), verifier }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("set" as const), verifier, skewMs: fc.constantFrom(-30_000, 0, 30_000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("loseIsolate" as const, "loseLocation" as const), isolate }) },
  { weight: 1, arbitrary: fc.constant({ do: "deploy" as const }) },
);

/** By how much the clocks of the verifiers' machines are ahead at first. */
const skew = fc.integer({ min: -30_000, max: 30_000 });
const skews = fc.tuple(skew, skew);

async function take(world: World, step: Step): Promise<void> {
  switch (step.do) {
    case "advance":
      return world.advance(step.ms);
    case "narrow":
      return world.narrow();
    case "moveAndReturn":
      return world.moveAndReturn();
    case "deploy":
      return world.deploy();
    case "widen":
      return world.widen(step.isolate);
    case "loseIsolate":
      return world.loseIsolate(step.isolate);
    case "loseLocation":
      return world.loseLocation(step.isolate);
    case "set":
      return world.set(step.verifier, step.skewMs);
    case "arrive":
      return world.arrive(step.verifier, step.isOutOfOrder);
    case "request":
      return request(world, step.isolate, step.verifier);
    default:
      return world[step.do](step.verifier);
  }
}

async function request(world: World, isolate: number, verifier: number): Promise<void> {
  const outcome = await world.request(isolate, verifier);
  if (!world.isGranted && outcome === "allowed" && world.now > world.mayAdmitUntil(verifier, STALE_BOUND_MS, UNTOLD_BOUND_MS)) {
    throw new Error(`a stale yes, ${world.now - world.narrowedAt} ms after the grant was taken away`);
  }
  if (world.isGranted && outcome === "refused" && !world.mayRepeatRefusal(isolate)) {
    throw new Error(`a no to somebody who may, ${world.now - world.widenedAt} ms after it was given`);
  }
}

function explore(switches: Switches): Promise<fc.RunDetails<[Step[], [number, number]]>> {
  const property = fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), skews, async (steps, skewsMs) => {
    const world = new World(switches, skewsMs);
    for (const one of steps) await take(world, one);
  });
  return fc.check(property, { numRuns: RUNS, seed: 20_260_101 });
}

test("no stale yes outside the bound and no refusal of what stands, whatever is lost, late, repeated, reordered or restarted", async () => {
  const { errorInstance, counterexample } = await explore(ALL_ON);
  expect([errorInstance, counterexample]).toEqual([null, null]);
});

test.each<[keyof Switches, string]>([
  ["floors", "a floor is not looked at"],
  ["readAt", "a silent feed changes nothing"],
  ["numbers", "nobody notices that a floor was lost"],
  ["grantEpochs", "a grant outlives its account's hold on the VM"],
  ["regionTime", "tickets look younger to a machine whose clock is behind"],
] as const)(
  "without %s the model finds a stale yes: %s",
  async (part) => {
    const { failed, errorInstance } = await explore({ ...ALL_ON, [part]: false });
    expect(failed).toBe(true);
    expect(String(errorInstance)).toContain("a stale yes");
  },
  60_000,
);

test("with every message delivered, a narrowing is refused at once by every isolate and verifier", async () => {
  const property = fc.asyncProperty(fc.array(fc.tuple(isolate, verifier, fc.nat(70_000))), skews, async (requests, skewsMs) => {
    const world = new World(ALL_ON, skewsMs);
    for (const [from, to, ms] of requests) {
      world.advance(ms);
      expect(await world.request(from, to)).toBe("allowed");
    }
    world.narrow();
    for (let from = 0; from < ISOLATES; from += 1) {
      for (let to = 0; to < VERIFIERS; to += 1) expect(await world.request(from, to)).toBe("refused");
    }
  });
  await fc.assert(property, { numRuns: 300, seed: 7 });
});
