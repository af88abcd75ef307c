import { beforeEach, expect, it } from "vitest";
import { z } from "zod";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { type Colo, noColo } from "../../worker/cache/colo.ts";
import { FactCache, type Lookup } from "../../worker/cache/facts.ts";
import type { Fact, Kept } from "../../worker/cache/freshness.ts";

const KEPT = z.custom<Kept<Fact>>((value) => value !== null);
const START = 1_900_000_000_000;
let now: number;
let reads: number;
let cache: FactCache<Fact>;
let behind: Promise<unknown>[];
/** What the object says; may be held back. */
let object: () => Promise<Result<Fact>>;

beforeEach(() => {
  now = START;
  reads = 0;
  cache = new FactCache("verdict", KEPT);
  behind = [];
  object = async () => success({ readAt: now });
});

const find = (colo: Colo = noColo, of = cache) => {
  const lookup: Lookup = {
    clock: () => now,
    colo,
    maxEntries: 10,
    maxAgeMs: 60_000,
    refreshAgeMs: 40_000,
    waitUntil: (work) => behind.push(work),
  };
  const read = () => {
    reads += 1;
    return object();
  };
  return of.find("key", lookup, read);
};
const settled = () => Promise.all(behind.splice(0));

it("who comes often never waits for an object: a fact near its end is read again behind the answer", async () => {
  await find();
  for (let count = 0; count < 100; count += 1) {
    now += 15_000;
    expect((await find()).level).toBe("isolate");
    await settled();
  }
  expect(reads).toBeLessThanOrEqual(1 + (100 * 15) / 40);
});

it("a burst near the end reads it once", async () => {
  await find();
  now += 41_000;
  await Promise.all(Array.from({ length: 20 }, () => find()));
  await settled();
  expect(reads).toBe(2);
});

it("a fact that nobody can read again is used for no longer than before", async () => {
  await find();
  object = async () => failure("authority-unavailable", "away");
  now += 59_000;
  expect((await find()).result).toEqual(success({ readAt: START }));
  await settled();
  now += 1_001;
  expect((await find()).result.ok).toBe(false);
});

it("what the object refuses behind an answer is forgotten at once", async () => {
  await find();
  object = async () => failure("credential-invalid", "revoked");
  now += 41_000;
  expect((await find()).result.ok).toBe(true);
  await settled();
  expect((await find()).result.ok).toBe(false);
});

it("what was asked behind an answer does not bring back what was dropped in the meantime", async () => {
  await find();
  const held = Promise.withResolvers<Result<Fact>>();
  object = () => held.promise;
  now += 41_000;
  await find();
  cache.clear();
  held.resolve(success({ readAt: now }));
  await settled();
  expect(cache.size).toBe(0);
});

it("a question that never ends, since its request was cancelled, does not keep others from asking", async () => {
  await find();
  object = () => new Promise(() => undefined);
  now += 41_000;
  await find();
  now += 6_000;
  object = async () => success({ readAt: now });
  await find();
  await behind.at(-1);
  expect(reads).toBe(3);
  now += 55_000;
  expect((await find()).level).toBe("isolate");
});

it("isolates of one location read it once between them", async () => {
  const entries = new Map<string, unknown>();
  const colo: Colo = {
    get: async (key) => entries.get(key) ?? null,
    put: async (key, value) => {
      entries.set(key, value);
    },
    drop: async (key) => {
      entries.delete(key);
    },
  };
  const second = new FactCache<Fact>("verdict", KEPT);
  await find(colo);
  await settled();
  await find(colo, second);
  now += 41_000;
  await find(colo);
  await settled();
  await find(colo, second);
  await settled();
  expect(reads).toBe(2);
});
