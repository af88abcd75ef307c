import { readFileSync } from "node:fs";
import { PACKAGE_NAMES, type PackageName } from "./package-names.ts";
import { TABLE_V1, TABLE_V5, type TableRow } from "./table.ts";

/** A method that a package has, as the checklist names it. */
export interface ChecklistEntry {
  readonly packageName: PackageName;
  readonly method: string;
  /** The checklist's own word that the package's client cannot make the call. */
  readonly broken: boolean;
}

const [NAME_46, NAME_63, NAME_217] = PACKAGE_NAMES;

/** Every package × method of the checklist, read from its document. */
export function readChecklist(): readonly ChecklistEntry[] {
  const text = readFileSync(new URL("documents/checklist.md", import.meta.url), "utf8");
  const [, first = "", second = ""] = text.split(/^## /m);
  return [
    ...cells(first).flatMap(([method = "", , , in46 = "", in63 = ""]) => [
      ...entry(NAME_46, method, in46),
      ...entry(NAME_63, method, in63),
    ]),
    ...cells(second).flatMap(([method = ""]) => entry(NAME_217, method, "✓")),
  ];
}

/** The table's row for an entry. */
export function rowOf({ packageName, method }: ChecklistEntry): TableRow | undefined {
  return (packageName === NAME_217 ? TABLE_V5 : TABLE_V1).find((row) => row.method === method);
}

/** A cell of `–` says that the package has no such method. */
function entry(packageName: PackageName, method: string, cell: string): ChecklistEntry[] {
  return cell === "–" ? [] : [{ packageName, method, broken: cell === "broken client" }];
}

/** Rows of a document's table, without its head. A `\|` is part of a cell. */
function cells(section: string): string[][] {
  const lines = section.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| --"));
  return lines.slice(1).map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}
