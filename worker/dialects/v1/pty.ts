import { z } from "zod";
import { type TerminalRow, terminalSide } from "../../../protocol/host-api.ts";
import { attachTerminal, closeTerminal, listTerminals, openTerminal } from "../../services/terminals.ts";
import { type Endpoint, forwardedEndpoint, vmEndpoint, vmSocketEndpoint } from "../endpoint.ts";
import { mintTerminalTicket, terminalTicketAnswer, terminalTicketSummary } from "../terminal-ticket.ts";
import { mapped } from "../translate.ts";

const PTY = "/v1/vms/{vmId}/pty";

const size = { cols: terminalSide.optional(), rows: terminalSide.optional() };

const session = z.object({
  sessionId: z.string(),
  running: z.boolean(),
  exitCode: z.int().optional(),
  exitedAtMs: z.number().optional(),
  cols: z.int(),
  rows: z.int(),
  exec: z.string().optional(),
  createdAtMs: z.number(),
  attachedCount: z.int(),
  user: z.string(),
  suspended: z.boolean(),
});

/** Terminals of 0.1.63 (contract section 5.1); 0.1.46 has none. */
export const ptyEndpoints: readonly Endpoint[] = [
  vmSocketEndpoint("terminal", {
    method: "get",
    path: PTY,
    summary: "Open a terminal session (WebSocket)",
    query: z.object({ ...size, exec: z.string().optional(), sessionId: z.string().optional() }),
    answer: z.never(),
    handle: async (_edge, caller, { query }) => {
      const { cols, rows, exec, sessionId: name } = query;
      return openTerminal(caller, "v1", { cols, rows, exec, name });
    },
  }),
  forwardedEndpoint("terminal", {
    method: "get",
    path: `${PTY}/sessions`,
    summary: "List terminal sessions",
    answer: z.object({ sessions: z.array(session) }),
    handle: async (edge, authority) =>
      mapped(await listTerminals(edge, authority), ({ sessions }) => ({ sessions: sessions.map(toSession) })),
  }),
  vmSocketEndpoint("terminal", {
    method: "get",
    path: `${PTY}/sessions/{sessionId}`,
    summary: "Attach to a terminal session (WebSocket)",
    query: z.object(size),
    answer: z.never(),
    handle: async (_edge, caller, { path, query }) => attachTerminal(caller, "v1", path.sessionId, query),
  }),
  forwardedEndpoint("terminal", {
    method: "delete",
    path: `${PTY}/sessions/{sessionId}`,
    summary: "Kill a terminal session and remove it",
    answer: z.object({ sessionId: z.string(), exitCode: z.int().optional() }),
    handle: async (edge, authority, { path }) =>
      mapped(await closeTerminal(edge, authority, "v1", path.sessionId), ({ name, exitCode }) => ({
        sessionId: name,
        exitCode: exitCode ?? undefined,
      })),
  }),
  vmEndpoint("terminal", {
    method: "post",
    path: "/v1/vms/{vmId}/terminal-ticket",
    summary: terminalTicketSummary,
    answer: terminalTicketAnswer,
    handle: mintTerminalTicket,
  }),
];

function toSession(row: TerminalRow): z.output<typeof session> {
  const { name, running, exitCode, exitedAt, cols, rows, exec, createdAt, attached, linuxUser, suspended } = row;
  return {
    sessionId: name,
    running,
    ...(exitCode === null ? {} : { exitCode }),
    ...(exitedAt === null ? {} : { exitedAtMs: exitedAt }),
    cols,
    rows,
    ...(exec === null ? {} : { exec }),
    createdAtMs: createdAt,
    attachedCount: attached,
    user: linuxUser,
    suspended,
  };
}
