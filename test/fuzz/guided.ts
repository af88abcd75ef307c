import { writeFileSync } from "node:fs";
import { corpus, NASTY } from "./support/corpus.ts";
import { Coverage } from "./support/coverage.ts";
import { TARGETS, type Target } from "./support/targets.ts";

/**
 * Coverage-guided fuzzing: `npm run fuzz -- [target] [seconds] [--keep]`. An input that reaches code which nothing had
 * reached is kept and changed further. Prints what it did; ends with 1, and shows the input, when a promise is broken.
 * `--keep` adds the inputs that were found to the corpus of the target's name.
 */

const MAX_INPUT_BYTES = 2_048;

async function main([name = "all", seconds = "60", keep]: readonly string[]): Promise<void> {
  const names = name === "all" ? Object.keys(TARGETS).filter((known) => known !== "planted") : [name];
  const coverage = new Coverage();
  await coverage.start();
  for (const each of names) {
    const make = TARGETS[each];
    if (make === undefined) throw new Error(`no target ${each}: ${Object.keys(TARGETS).join(", ")}`);
    const found = await fuzz(each, await make(), coverage, Date.now() + (Number(seconds) * 1_000) / names.length);
    if (keep === "--keep") keepInputs(each, found);
  }
}

/** Resolves with the inputs that reached something new. */
async function fuzz(name: string, target: Target, coverage: Coverage, deadline: number): Promise<Buffer[]> {
  const pool = [...target.seeds];
  for (const seed of pool) await attempt(name, target, seed);
  await coverage.grew();
  const before = coverage.ways;
  let runs = pool.length;
  for (; Date.now() < deadline; runs += 1) {
    const input = mutate(pool);
    await attempt(name, target, input);
    if (await coverage.grew()) pool.push(input);
  }
  const found = pool.slice(target.seeds.length);
  console.log(`${name}: ${runs} inputs, ${found.length} kept, ${coverage.ways - before} new ways through functions`);
  return found;
}

async function attempt(name: string, target: Target, input: Buffer): Promise<void> {
  try {
    await target.run(input);
  } catch (error) {
    console.log(`${name} failed on ${JSON.stringify(input.toString("latin1"))}`);
    throw error;
  }
}

function mutate(pool: readonly Buffer[]): Buffer {
  let bytes = Buffer.from(pick(pool));
  for (let edits = 1 + below(4); edits > 0; edits -= 1) {
    const [at, other] = [below(bytes.length + 1), below(bytes.length + 1)];
    const [from, to] = at < other ? [at, other] : [other, at];
    const nasty = Buffer.from(pick(NASTY), "latin1");
    const donor = pick(pool);
    const changed = [
      () => Buffer.concat([bytes.subarray(0, at), Buffer.of(below(256)), bytes.subarray(at + 1)]),
      () => Buffer.concat([bytes.subarray(0, at), nasty, bytes.subarray(at + below(2) * nasty.length)]),
      () => Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]),
      () => Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)]),
      () => Buffer.concat([bytes.subarray(0, at), donor.subarray(below(donor.length + 1))]),
    ];
    bytes = pick(changed)().subarray(0, MAX_INPUT_BYTES);
  }
  return bytes;
}

function keepInputs(name: string, found: readonly Buffer[]): void {
  const kept = new Set([...corpus(name), ...found].map((bytes) => bytes.toString("latin1")));
  writeFileSync(new URL(`corpus/${name}.json`, import.meta.url), `${JSON.stringify([...kept], null, 2)}\n`);
}

function below(limit: number): number {
  return Math.floor(Math.random() * limit);
}

function pick<T>(from: readonly T[]): T {
  const chosen = from[below(from.length)];
  if (chosen === undefined) throw new Error("nothing to choose from");
  return chosen;
}

await main(process.argv.slice(2));
