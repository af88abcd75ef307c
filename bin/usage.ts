/** The words behind a command are not what it takes; `message` is how it is used. */
export class UsageError extends Error {}

/** Whether somebody asks how a command is used, instead of using it. */
export function asksForHelp([first]: readonly string[]): boolean {
  return first === "--help" || first === "-h";
}
