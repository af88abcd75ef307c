import { expect, it } from "vitest";
import document from "../../docs/errors.md?raw";
import sdk63 from "../../node_modules/freestyle-0.1/index.mjs?raw";
import sdk46 from "../../node_modules/freestyle-sandboxes/index.mjs?raw";
import { FAILURES } from "../../protocol/failures.ts";
import { tableRows } from "./support/markdown.ts";

const rows = tableRows(document);

it("docs/errors.md has a row for every failure, with the code and status of each dialect", () => {
  const expected = Object.entries(FAILURES).map(([kind, { v1, v5 }]) => [
    `\`${kind}\``,
    `\`${v1[0]}\` ${v1[1]}`,
    `\`${v5[0]}\` ${v5[1]}`,
  ]);
  expect(rows.map((row) => row.slice(0, 3))).toEqual(expected);
});

it("every row says what happened and what to do", () => {
  for (const [kind, , , cause, remedy] of rows) {
    expect(cause?.length, kind).toBeGreaterThan(10);
    expect(remedy?.length, kind).toBeGreaterThan(5);
  }
});

it("every code of /v1 is known to the 0.1 SDKs, since 0.1.63 retries an unknown one for ever", () => {
  const codesOf = (source: string) => new Set([...source.matchAll(/static code = "(\w+)"/g)].map(([, code]) => code));
  const used = [...new Set(Object.values(FAILURES).map(({ v1 }) => v1[0]))];
  expect(used.filter((code) => !codesOf(sdk63).has(code))).toEqual([]);
  const newer = used.filter((code) => !codesOf(sdk46).has(code));
  expect(newer.filter((code) => code !== "EXEC_TIMED_OUT" && !code.includes("SESSION"))).toEqual([]);
});
