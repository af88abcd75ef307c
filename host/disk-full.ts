import { failure } from "../protocol/failures.ts";

const CODES: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT"]);
/** How engines and commands put it (`strerror(3)`), whose errors reach us as text. */
const WORDS = /no space left on device|disk quota exceeded/i;

/** Whether something failed because a disk of the host's is full: by its error, or any that caused it. */
export function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ("code" in error && CODES.has(error.code)) return true;
  return WORDS.test(error.message) || isDiskFull(error.cause);
}

/** `what` was not done, and what that leaves: a sentence. */
export function diskFull(what: string) {
  return failure("host-disk-full", `The disk of the VM's host is full. ${what} Try again once its operator has made room.`);
}
