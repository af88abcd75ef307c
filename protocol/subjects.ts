/**
 * What a ticket hangs on. Whose verdict it is: `identity:<id>` or, for an API key, `account:<id>`. And what it presupposes:
 * `tenant:<account id>`, that the account is not suspended, and `vm:<id>`, that the VM exists and is that account's. Epochs and
 * floors are counted per subject.
 */
export type Subject = `identity:${string}` | `account:${string}` | `tenant:${string}` | `vm:${string}`;

export function identitySubject(identityId: string): Subject {
  return `identity:${identityId}`;
}

export function accountSubject(accountId: string): Subject {
  return `account:${accountId}`;
}

export function tenantSubject(accountId: string): Subject {
  return `tenant:${accountId}`;
}

export function vmSubject(vmId: string): Subject {
  return `vm:${vmId}`;
}

/** Whether a string read from the wire names somebody whose verdict it can be. */
export function isPrincipal(value: unknown): value is Subject {
  return typeof value === "string" && /^(identity|account):[a-z2-7]{16}$/.test(value);
}

/** Whether a string read from the wire is a subject that this build knows. */
export function isSubject(value: unknown): value is Subject {
  return isPrincipal(value) || (typeof value === "string" && /^(tenant:[a-z2-7]{16}|vm:[a-z0-9]{20})$/.test(value));
}
