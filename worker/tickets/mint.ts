import type { Verdict } from "../../durable-objects/contract.ts";
import type { Env } from "../../durable-objects/env.ts";
import { signTicket, type TicketClaims } from "../../protocol/ticket.ts";
import { type TicketOptions, ticketClaimsOf } from "./claims.ts";
import { currentSigner } from "./signer.ts";

/**
 * Signs a verdict as a ticket for one host. The ticket ends with the credential behind the verdict if that is sooner.
 * Throws when no signing key can be had: the caller answers `authority-unavailable`.
 */
export async function mintTicket(
  env: Env,
  verdict: Verdict,
  options: TicketOptions,
): Promise<{ ticket: string; claims: TicketClaims }> {
  const signer = await currentSigner(env, options.now);
  const claims = ticketClaimsOf(env.ISSUER, verdict, options);
  return { ticket: await signTicket(claims, signer.key, signer.kid), claims };
}
