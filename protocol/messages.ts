/**
 * Messages that must be the same bytes wherever they are made: whoever is refused must not learn from the wording which
 * of several reasons it was.
 */

/** `vm-not-found`: the VM does not exist, is another account's, was deleted, or is not granted. */
export const VM_NOT_FOUND_MESSAGE = "This VM does not exist, or this credential has no access to it.";

/** `credential-invalid`: unknown, revoked or expired, or not a credential at all. */
export const CREDENTIAL_INVALID_MESSAGE = "This credential is not valid. It may be mistyped, expired or revoked.";

/** `identity-not-found`: the identity does not exist, was removed, or is another account's. */
export const IDENTITY_NOT_FOUND_MESSAGE = "This identity does not exist.";

/** `snapshot-not-found`: the snapshot does not exist, was deleted, or is another account's. */
export const SNAPSHOT_NOT_FOUND_MESSAGE = "This account has no such snapshot.";
