import { z } from "zod";
import type { AuditRow } from "../../../durable-objects/audit-contract.ts";
import { listAuditEvents } from "../../services/audit.ts";
import { accountEndpoint, type Endpoint } from "../endpoint.ts";
import { isoTime, mapped } from "../translate.ts";

const VERDICTS = ["allowed", "refused"] as const;

const DEFAULT_LIMIT = 100;

const auditEvent = z.object({
  id: z.int(),
  at: z.string(),
  traceId: z.string(),
  /** `account:…`, `identity:…` or `operator`. */
  subject: z.string(),
  /** Id of the API key or access token. */
  credentialId: z.string().nullable(),
  operation: z.string(),
  vmId: z.string().nullable(),
  identityId: z.string().nullable(),
  linuxUser: z.string().nullable(),
  clientAddress: z.string().nullable(),
  verdict: z.enum(VERDICTS),
  /** A kind of `docs/errors.md`. */
  failure: z.string().nullable(),
});

/** The account's audit trail; `docs/audit.md` says what is in it. No SDK knows this route. */
export const auditEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "get",
    path: "/v5/audit-events",
    summary: "List who did what, newest first; nextBefore is the `before` of the next page",
    query: z.strictObject({
      vmId: z.string().optional(),
      identityId: z.string().optional(),
      verdict: z.enum(VERDICTS).optional(),
      before: z.coerce.number().int().positive().optional(),
      limit: z.coerce.number().int().min(1).default(DEFAULT_LIMIT),
    }),
    answer: z.object({ events: z.array(auditEvent), nextBefore: z.int().nullable() }),
    handle: async (edge, { accountId }, { query }) => {
      const limit = Math.min(query.limit, edge.settings.MAX_PAGE_SIZE);
      return mapped(await listAuditEvents(edge, accountId, { ...query, limit }), (events) => ({
        events: events.map(toEvent),
        nextBefore: events.length < limit ? null : (events.at(-1)?.id ?? null),
      }));
    },
  }),
];

function toEvent({ at, ...event }: AuditRow): z.output<typeof auditEvent> {
  return { ...event, at: isoTime(at) };
}
