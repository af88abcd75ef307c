/**
 * Writes one line of JSON for the operator. Callers pass ids, kinds and reasons; never a credential, a ticket, a command
 * or a file's content.
 */
export function logEvent(event: string, fields: Readonly<Record<string, string | number | boolean | null>>): void {
  console.log(JSON.stringify({ event, ...fields }));
}
