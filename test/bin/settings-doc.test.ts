import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { SETTINGS_DOC, settingsDoc } from "../../bin/settings-doc.ts";

/** The formatter pads tables; what they say is in the cells. */
const cells = (page: string) => page.replaceAll(/ *\| */g, "|").replaceAll(/-{2,}/g, "--");

it("docs/settings.md lists every setting with its default and what it is, as the sources say (npm run docs)", () => {
  expect(cells(readFileSync(SETTINGS_DOC, "utf8"))).toBe(cells(settingsDoc()));
});

it("every setting has a sentence that says what it is", () => {
  const rows = settingsDoc()
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  expect(rows.length).toBeGreaterThan(100);
  for (const row of rows) expect(row.split("|")[3]?.trim().length, row).toBeGreaterThan(8);
});
