import { z } from "zod";
import { type TerminalRow, terminalSide } from "../../../protocol/host-api.ts";
import { IMAGE_USER } from "../../../protocol/linux-user.ts";
import { attachTerminal, closeTerminal, listTerminals, openTerminal } from "../../services/terminals.ts";
import { type Endpoint, forwardedEndpoint, vmEndpoint, vmSocketEndpoint } from "../endpoint.ts";
import { mintTerminalTicket, terminalTicketAnswer, terminalTicketSummary } from "../terminal-ticket.ts";
import { mapped } from "../translate.ts";

const PTY = "/v5/vms/{vmId}/pty";

const userQuery = z.object({ linuxUser: z.string().optional() });
type UserQuery = z.output<typeof userQuery>;

/** Without a name it is whoever the guest says. */
const byUser = {
  linuxUser: ({ query }: { readonly query: UserQuery }) => query.linuxUser ?? null,
  unnamedUser: IMAGE_USER,
} as const;

const session = z.object({
  sessionId: z.int(),
  state: z.enum(["running", "exited"]),
  createdUnix: z.int(),
  cols: z.int(),
  rows: z.int(),
  exitCode: z.int().optional(),
  linuxUser: z.string(),
  slug: z.string().optional(),
  suspended: z.boolean(),
});

/** Terminals of 0.2 (contract section 5.2). */
export const ptyEndpoints: readonly Endpoint[] = [
  vmSocketEndpoint("terminal", {
    method: "get",
    path: PTY,
    summary: "Open a terminal session, or the one of that slug (WebSocket)",
    query: userQuery.extend({
      cols: terminalSide.optional(),
      rows: terminalSide.optional(),
      exec: z.string().optional(),
      slug: z.string().optional(),
      replaceOnExit: z.enum(["true", "false"]).optional(),
    }),
    ...byUser,
    answer: z.never(),
    handle: async (_edge, caller, { query }) => {
      const { cols, rows, exec, slug, replaceOnExit } = query;
      return openTerminal(caller, "v5", { cols, rows, exec, slug, replaceOnExit: replaceOnExit === "true" });
    },
  }),
  forwardedEndpoint("terminal", {
    method: "get",
    path: `${PTY}/sessions`,
    summary: "List terminal sessions",
    query: userQuery,
    ...byUser,
    answer: z.object({ sessions: z.array(session) }),
    handle: async (edge, authority) =>
      mapped(await listTerminals(edge, authority), ({ sessions }) => ({ sessions: sessions.map(toSession) })),
  }),
  vmSocketEndpoint("terminal", {
    method: "get",
    path: `${PTY}/sessions/{session}`,
    summary: "Attach to a terminal session by number or slug (WebSocket)",
    query: userQuery,
    ...byUser,
    answer: z.never(),
    handle: async (_edge, caller, { path }) => attachTerminal(caller, "v5", path.session, {}),
  }),
  forwardedEndpoint("terminal", {
    method: "delete",
    path: `${PTY}/sessions/{session}`,
    summary: "Kill a terminal session and remove it",
    query: userQuery,
    ...byUser,
    answer: z.object({ sessionId: z.int(), exitCode: z.int().optional() }),
    handle: async (edge, authority, { path }) =>
      mapped(await closeTerminal(edge, authority, "v5", path.session), ({ number, exitCode }) => ({
        sessionId: number,
        exitCode: exitCode ?? undefined,
      })),
  }),
  vmEndpoint("terminal", {
    method: "post",
    path: "/v5/vms/{vmId}/terminal-ticket",
    summary: terminalTicketSummary,
    body: z.strictObject({ linuxUser: z.string().nullish() }),
    linuxUser: ({ body }) => body.linuxUser ?? null,
    unnamedUser: IMAGE_USER,
    answer: terminalTicketAnswer,
    handle: mintTerminalTicket,
  }),
];

function toSession(row: TerminalRow): z.output<typeof session> {
  const { number, running, createdAt, cols, rows, exitCode, slug, suspended } = row;
  return {
    sessionId: number,
    state: running ? "running" : "exited",
    createdUnix: Math.floor(createdAt / 1000),
    cols,
    rows,
    ...(exitCode === null ? {} : { exitCode }),
    linuxUser: row.linuxUser,
    ...(slug === null ? {} : { slug }),
    suspended,
  };
}
