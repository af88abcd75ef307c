import { z } from "zod";
import { listTerminals, readTerminal } from "../../services/terminals.ts";
import { type Endpoint, vmEndpoint } from "../endpoint.ts";
import { isoTime, mapped } from "../translate.ts";

const TERMINALS = "/v1/vms/{vmId}/terminals";

/** Terminals as 0.1 reads them (contract section 5.3): the sessions that `pty` opens, by their names. Nothing here wakes a VM. */
export const terminalEndpoints: readonly Endpoint[] = [
  vmEndpoint("terminal", {
    method: "get",
    path: TERMINALS,
    summary: "List terminal sessions by name",
    answer: z.object({
      terminals: z.array(z.object({ name: z.string(), status: z.enum(["running", "exited"]), created: z.string() })),
    }),
    handle: async (edge, authority) =>
      mapped(await listTerminals(edge, authority), ({ sessions }) => ({
        terminals: sessions.map(({ name, running, createdAt }) => ({
          name,
          status: running ? "running" : "exited",
          created: isoTime(createdAt),
        })),
      })),
  }),
  vmEndpoint("terminal", {
    method: "get",
    path: `${TERMINALS}/{terminalId}/logs`,
    summary: "The last output of a terminal session as lines of plain text",
    answer: z.object({ logs: z.array(z.object({ line: z.string() })) }),
    handle: async (edge, authority, { path }) =>
      mapped(await readTerminal(edge, authority, path.terminalId), ({ lines }) => ({ logs: lines.map((line) => ({ line })) })),
  }),
  vmEndpoint("terminal", {
    method: "get",
    path: `${TERMINALS}/{terminalId}/xterm-256color`,
    summary: "The last output of a terminal session as the terminal got it",
    answer: z.object({ output: z.string() }),
    handle: async (edge, authority, { path }) =>
      mapped(await readTerminal(edge, authority, path.terminalId), ({ output }) => ({ output })),
  }),
];
