import type { AuditEvent } from "../../durable-objects/audit-contract.ts";
import type { Edge } from "../edge.ts";
import { logEvent } from "../log.ts";
import { ask, auditObject } from "../objects.ts";

/** Events that this isolate has gathered and not yet written, by account. */
let gathered = new Map<string, AuditEvent[]>();
let count = 0;
/** When somebody last promised to write them, milliseconds since 1970 UTC; null: nobody has. */
let promisedAt: number | null = null;

/** Whoever promised to write and has not after so many times its wait is gone, since the runtime ends such work. */
const PATIENCE = 3;

/** Gathers an event and sees to it that it is written soon after the answer, together with others. Best effort. */
export function gather(edge: Edge, accountId: string, event: AuditEvent): void {
  const known = gathered.get(accountId);
  if (known === undefined) gathered.set(accountId, [event]);
  else known.push(event);
  count += 1;
  const { AUDIT_FLUSH_MS: waitMs, AUDIT_BATCH_EVENTS: most } = edge.settings;
  const now = edge.clock();
  if (count >= most) edge.waitUntil(flush(edge));
  else if (promisedAt === null || now - promisedAt > waitMs * PATIENCE) {
    promisedAt = now;
    edge.waitUntil(new Promise((resolve) => setTimeout(resolve, waitMs)).then(() => flush(edge)));
  }
}

async function flush(edge: Edge): Promise<void> {
  const batches = [...gathered];
  gathered = new Map();
  count = 0;
  promisedAt = null;
  await Promise.all(
    batches.map(async ([accountId, events]) => {
      const written = await ask(() => auditObject(edge.env, accountId).append(events));
      if (!written.ok) logEvent("audit-events-lost", { accountId, count: events.length });
    }),
  );
}
