/** Quotes one word for a POSIX shell (POSIX.1-2017, Shell Command Language 2.2.2): no character in it has meaning. */
export function shellQuote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
