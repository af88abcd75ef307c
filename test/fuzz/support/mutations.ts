import fc from "fast-check";
import { corpus, NASTY } from "./corpus.ts";

/** Cases tried by one fuzz test. A nightly run sets `POSTERN_FUZZ_RUNS` far higher. */
export const FUZZ_RUNS = Number(process.env.POSTERN_FUZZ_RUNS ?? "2000");

type Edit = (bytes: Buffer) => Buffer;

function edit(seeds: readonly Buffer[]): fc.Arbitrary<Edit> {
  const place = fc.double({ min: 0, max: 1, noNaN: true });
  const at = (bytes: Buffer, where: number) => Math.floor(where * bytes.length);
  const cut = (bytes: Buffer, from: number, to: number, put: Buffer) =>
    Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(to)]);
  return fc.oneof(
    fc.tuple(place, fc.nat(255)).map(
      ([where, value]): Edit =>
        (bytes) => {
          const changed = Buffer.from(bytes);
          if (changed.length > 0) changed[Math.min(at(bytes, where), changed.length - 1)] = value;
          return changed;
        },
    ),
    fc.tuple(place, fc.uint8Array({ maxLength: 8 })).map(
      ([where, put]): Edit =>
        (bytes) => {
          const from = at(bytes, where);
          return cut(bytes, from, from, Buffer.from(put));
        },
    ),
    fc.tuple(place, fc.constantFrom(...NASTY)).map(
      ([where, text]): Edit =>
        (bytes) => {
          const put = Buffer.from(text, "latin1");
          return cut(bytes, at(bytes, where), at(bytes, where) + put.length, put);
        },
    ),
    fc.tuple(place, place).map(
      ([one, other]): Edit =>
        (bytes) => {
          const [from, to] = [at(bytes, one), at(bytes, other)].sort((left, right) => left - right);
          return cut(bytes, from ?? 0, to ?? 0, Buffer.alloc(0));
        },
    ),
    fc.tuple(place, place).map(
      ([one, other]): Edit =>
        (bytes) => {
          const [from, to] = [at(bytes, one), at(bytes, other)].sort((left, right) => left - right);
          return cut(bytes, from ?? 0, from ?? 0, bytes.subarray(from, to));
        },
    ),
    fc.tuple(place, fc.constantFrom(...seeds), place).map(
      ([where, other, from]): Edit =>
        (bytes) =>
          Buffer.concat([bytes.subarray(0, at(bytes, where)), other.subarray(at(other, from))]),
    ),
  );
}

/** Corpus entries, changed a few times, and now and then something of no form at all. */
export function mutated(name: string): fc.Arbitrary<Buffer> {
  const seeds = corpus(name);
  const changed = fc
    .tuple(fc.constantFrom(...seeds), fc.array(edit(seeds), { maxLength: 6 }))
    .map(([seed, edits]) => edits.reduce((bytes, change) => change(bytes), seed));
  return fc.oneof(
    { weight: 9, arbitrary: changed },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map((b) => Buffer.from(b)) },
  );
}
