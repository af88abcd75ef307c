/** What was thrown, in its own words: an `Error`'s message, or the text of whatever else it was. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
