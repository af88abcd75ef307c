/** The cells of every row of a Markdown document's tables whose first cell is code, trimmed. */
export function tableRows(document: string): string[][] {
  return document
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}
