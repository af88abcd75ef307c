import { z } from "zod";
import { type Result, success } from "../../protocol/failures.ts";
import type { Edge } from "../edge.ts";
import type { FreshAuthority } from "../services/authorise.ts";
import { terminalTicket } from "../services/tickets.ts";

export const terminalTicketSummary = "Mint a single-use ticket for one terminal's WebSocket, for browsers";

/** `expiresAt`: RFC 3339 in UTC. */
export const terminalTicketAnswer = z.object({ ticket: z.string(), expiresAt: z.string() });

/** Both dialects answer alike: no SDK knows this route. */
export async function mintTerminalTicket(
  edge: Edge,
  authority: FreshAuthority,
): Promise<Result<z.output<typeof terminalTicketAnswer>>> {
  const minted = await terminalTicket(edge, authority);
  if (!minted.ok) return minted;
  const { ticket, expiresAt } = minted.value;
  return success({ ticket, expiresAt: new Date(expiresAt).toISOString() });
}
