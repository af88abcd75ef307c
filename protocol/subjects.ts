/**
 * Who a ticket or a floor is about: `identity:<id>` or `account:<id>`. Epochs and floors are counted per subject.
 */
export type Subject = `identity:${string}` | `account:${string}`;

export function identitySubject(identityId: string): Subject {
  return `identity:${identityId}`;
}

export function accountSubject(accountId: string): Subject {
  return `account:${accountId}`;
}
