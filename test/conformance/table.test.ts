import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readChecklist, rowOf } from "./checklist.ts";
import { isAbout, isMeant, parseReference } from "./package-names.ts";
import { TABLE_V1, TABLE_V5 } from "./table.ts";

const checklist = readChecklist();
const rows = [...TABLE_V1, ...TABLE_V5];

test("the checklist is read whole: 37 methods of two packages, less the four that one of them lacks, and 20 of the third", () => {
  const of = (packageName: string) => checklist.filter((entry) => entry.packageName === packageName).length;
  expect([of("freestyle-sandboxes 0.1.46"), of("freestyle 0.1.63"), of("freestyle 0.2.17")]).toEqual([34, 37, 20]);
});

test.each(checklist)("$packageName × $method has a test", (entry) => {
  const row = rowOf(entry);
  expect(row?.tests.length).toBeGreaterThan(0);
  if (entry.broken) expect(row?.broken46).toEqual(expect.any(String));
});

test("the table has no row that the checklist lacks, and none twice", () => {
  const methods = new Set(checklist.map(({ method }) => method));
  for (const { method } of rows) expect(methods).toContain(method);
  for (const table of [TABLE_V1, TABLE_V5]) expect(new Set(table.map(({ method }) => method)).size).toBe(table.length);
});

test.each([...new Set(rows.flatMap(({ tests }) => tests))])("the table's test exists: %s", (text) => {
  const { file, title } = parseReference(text);
  const source = readFileSync(new URL(file, import.meta.url), "utf8");
  expect([`"${title}`, `\`${title}`].some((start) => source.includes(start))).toBe(true);
});

describe("a test that ran", () => {
  const reference = parseReference("exec: a %s runs");
  test.each([
    ["/x/test/conformance/exec.test.ts", "a token runs a command", true],
    ["/x/test/conformance/exec.test.ts", "another runs", false],
    ["/x/test/conformance/v5-exec.test.ts", "a token runs a command", false],
  ])("in %s as %s is the one that is meant: %s", (file, name, meant) => {
    expect(isMeant(reference, { file, name })).toBe(meant);
  });

  test("is about the packages that it names, or about all when it names none", () => {
    expect(isAbout("freestyle 0.1.63", "pty of freestyle 0.2.17 > opens")).toBe(false);
    expect(isAbout("freestyle 0.2.17", "pty of freestyle 0.2.17 > opens")).toBe(true);
    expect(isAbout("freestyle 0.1.63", "every ssh form logs in")).toBe(true);
  });
});
