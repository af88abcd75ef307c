const MAX_MESSAGE_LENGTH = 500;

/**
 * A message that is safe to print on a stranger's terminal: control characters, escape sequences and direction overrides
 * become spaces, and it is at most 500 characters on one line.
 */
export function printable(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]+/gu, " ")
    .trim()
    .slice(0, MAX_MESSAGE_LENGTH);
}
