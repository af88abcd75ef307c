import fc from "fast-check";
import { expect, test } from "vitest";
import { type Floor, FloorTable } from "../../protocol/floors.ts";
import { identitySubject } from "../../protocol/subjects.ts";

const SUBJECT = identitySubject("a".repeat(16));
const OTHER = identitySubject("b".repeat(16));
const KEEP_MS = 1_000;

test("without a floor every epoch is admitted", () => {
  expect(new FloorTable(KEEP_MS).admits(SUBJECT, 0)).toBe(true);
});

test("a floor refuses what is below it, for its own subject only", () => {
  const floors = new FloorTable(KEEP_MS);
  expect(floors.raise({ sub: SUBJECT, epoch: 5, at: 0 })).toBe(true);
  expect([floors.admits(SUBJECT, 4), floors.admits(SUBJECT, 5), floors.admits(OTHER, 0)]).toEqual([false, true, true]);
});

test("however the feed repeats and reorders, the highest floor stands", () => {
  const raised = fc.array(fc.record({ sub: fc.constantFrom(SUBJECT, OTHER), epoch: fc.nat(20), at: fc.constant(0) }));
  fc.assert(
    fc.property(raised, (sent: Floor[]) => {
      const floors = new FloorTable(KEEP_MS);
      for (const floor of sent) floors.raise(floor);
      for (const sub of [SUBJECT, OTHER]) {
        const highest = Math.max(0, ...sent.filter((floor) => floor.sub === sub).map((floor) => floor.epoch));
        expect(floors.admits(sub, highest)).toBe(true);
        expect(highest === 0 || !floors.admits(sub, highest - 1)).toBe(true);
      }
      expect(floors.list().length).toBeLessThanOrEqual(2);
    }),
  );
});

test("an older or repeated floor changes nothing and says so", () => {
  const floors = new FloorTable(KEEP_MS);
  floors.raise({ sub: SUBJECT, epoch: 5, at: 0 });
  expect(floors.raise({ sub: SUBJECT, epoch: 5, at: 9 })).toBe(false);
  expect(floors.raise({ sub: SUBJECT, epoch: 4, at: 9 })).toBe(false);
  expect(floors.list()).toEqual([{ sub: SUBJECT, epoch: 5, at: 0 }]);
});

test("a floor is kept for its time and no longer", () => {
  const floors = new FloorTable(KEEP_MS);
  floors.raise({ sub: SUBJECT, epoch: 5, at: 100 });
  floors.prune(1_100);
  expect(floors.admits(SUBJECT, 4)).toBe(false);
  floors.prune(1_101);
  expect(floors.list()).toEqual([]);
});
