import type { AuditQuery, AuditRow } from "../../durable-objects/audit-contract.ts";
import type { Result } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import { ask, auditObject } from "../objects.ts";

/** Events of an account's audit trail, newest first. */
export async function listAuditEvents(edge: Edge, accountId: string, query: AuditQuery): Promise<Result<readonly AuditRow[]>> {
  return ask(() => auditObject(edge.env, accountId).list(query));
}
