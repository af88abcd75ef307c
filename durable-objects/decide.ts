import { failure, type Result, success } from "../protocol/failures.ts";
import { IMAGE_USER } from "../protocol/linux-user.ts";
import { VM_NOT_FOUND_MESSAGE } from "../protocol/messages.ts";
import { actsAsLinuxUser, isOpenToAccessTokens } from "../protocol/operations.ts";
import type { GrantRow, VerdictQuestion } from "./contract.ts";

/**
 * Whether a live access token with this grant may do what is asked: the Linux user to act as (`null` for operations on the
 * machine itself), or why not. `grant` is null when the VM is not granted, whether or not it exists.
 */
export function decide(question: VerdictQuestion, grant: GrantRow | null): Result<string | null> {
  const { operation } = question;
  // Before the grant is looked at: the answer must not say whether there is one.
  if (!isOpenToAccessTokens(operation)) {
    return failure("forbidden", `An access token may not ${operation} a VM. Use an API key of the account.`);
  }
  if (grant === null) return failure("vm-not-found", VM_NOT_FOUND_MESSAGE);
  if (!actsAsLinuxUser(operation)) return success(null);
  const { linuxUser } = question;
  if (linuxUser === null) return failure("bad-request", "This operation runs as a Linux user, and none was named.");
  if (grant.allowedUsers === null || grant.allowedUsers.includes(linuxUser)) return success(linuxUser);
  const allowed = grant.allowedUsers.length === 0 ? "none" : grant.allowedUsers.join(", ");
  const message =
    linuxUser === IMAGE_USER
      ? `This access token may act as some Linux users of this VM only, so one must be named. Allowed users: ${allowed}.`
      : `This access token may not act as the Linux user "${linuxUser}" on this VM. Allowed users: ${allowed}.`;
  return failure("linux-user-forbidden", message, { allowedUsers: grant.allowedUsers });
}
