import { failure, type Result } from "../protocol/failures.ts";
import {
  CREDENTIAL_INVALID_MESSAGE,
  IDENTITY_NOT_FOUND_MESSAGE,
  SNAPSHOT_NOT_FOUND_MESSAGE,
  VM_NOT_FOUND_MESSAGE,
} from "../protocol/messages.ts";

/** One answer for every credential that does not hold, so that it tells nothing about why. */
export const CREDENTIAL_INVALID = failure("credential-invalid", CREDENTIAL_INVALID_MESSAGE);

/**
 * The one answer for a VM that does not exist, is deleted, is not granted or is another account's: byte for byte the same,
 * so it carries no id.
 */
export const VM_NOT_FOUND = failure("vm-not-found", VM_NOT_FOUND_MESSAGE);

/** The one answer for an identity that does not exist, is deleted or is another account's. */
export const IDENTITY_NOT_FOUND = failure("identity-not-found", IDENTITY_NOT_FOUND_MESSAGE);

/** The one answer for a snapshot that does not exist, is deleted or is another account's. */
export const SNAPSHOT_NOT_FOUND = failure("snapshot-not-found", SNAPSHOT_NOT_FOUND_MESSAGE);

/** Replaces what an object says about something that is not there by the one answer for it. */
export function mask<T>(result: Result<T>): Result<T> {
  if (result.ok) return result;
  switch (result.failure.kind) {
    case "credential-invalid":
      return CREDENTIAL_INVALID;
    case "vm-not-found":
      return VM_NOT_FOUND;
    case "identity-not-found":
      return IDENTITY_NOT_FOUND;
    default:
      return result;
  }
}
