import { isVmId } from "./ids.ts";

const SLUG_PATTERN = /^[a-z0-9]+(?:-[a-z0-9]+)*$/;
const MAX_SLUG_LENGTH = 63;

/**
 * Whether a text may be a VM's slug: 1 to 63 of `[a-z0-9-]`, no hyphen first, last or twice in a row. Not in the form of a
 * VM id, so that whatever names a VM names one only.
 */
export function isSlug(text: string): boolean {
  return text.length <= MAX_SLUG_LENGTH && SLUG_PATTERN.test(text) && !isVmId(text);
}
