import { expect, it } from "vitest";
import document from "../../docs/errors.md?raw";
import { FAILURES } from "../../protocol/failures.ts";

const rows = document.split("\n").filter((line) => line.startsWith("| `"));

it("docs/errors.md has a row for every failure, with the code and status of each dialect", () => {
  const expected = Object.entries(FAILURES).map(
    ([kind, { v1, v5 }]) => `| \`${kind}\` | \`${v1[0]}\` ${v1[1]} | \`${v5[0]}\` ${v5[1]} |`,
  );
  expect(rows.map((row) => row.split("|").slice(0, 4).join("|").concat("|"))).toEqual(expected);
});

it("every row says what happened and what to do", () => {
  for (const row of rows) {
    const [, , , , cause, remedy] = row.split("|").map((cell) => cell.trim());
    expect(cause?.length, row).toBeGreaterThan(10);
    expect(remedy?.length, row).toBeGreaterThan(5);
  }
});
