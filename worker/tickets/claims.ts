import type { Verdict } from "../../durable-objects/contract.ts";
import { encodeBase32 } from "../../protocol/base32.ts";
import type { RandomBytes } from "../../protocol/bytes.ts";
import { forwarderAudience, hostAudience, MAX_TICKET_LIFE_S, type TicketClaims } from "../../protocol/ticket.ts";

export interface TicketOptions {
  readonly hostId: string;
  readonly hostUrl: string;
  /** Epochs of the account as a tenant and of the VM. */
  readonly accountEpoch: number;
  readonly vmEpoch: number;
  /** When the oldest was read of what the ticket hangs on besides the verdict; the verdict's own time when absent. */
  readonly readAt?: number;
  /** Also addresses the ticket to the forwarders of this region. */
  readonly forwarderRegion?: string;
  /** Who will carry the ticket. */
  readonly azp: TicketClaims["azp"];
  /** The only SSH key that may use the ticket (RFC 7800). */
  readonly cnf?: { readonly ssh: string };
  /** Seconds; never more than `MAX_TICKET_LIFE_S`. */
  readonly lifeS?: number;
  /** Milliseconds since 1970 UTC. */
  readonly now: number;
  readonly randomBytes: RandomBytes;
}

/** The claims of a ticket for a verdict. */
export function ticketClaimsOf(issuer: string, verdict: Verdict, options: TicketOptions): TicketClaims {
  const audience = [hostAudience(options.hostId)];
  if (options.forwarderRegion !== undefined) audience.push(forwarderAudience(options.forwarderRegion));
  const iat = Math.floor(options.now / 1000);
  const life = iat + Math.min(options.lifeS ?? MAX_TICKET_LIFE_S, MAX_TICKET_LIFE_S);
  const exp = verdict.expiresAt === null ? life : Math.min(life, Math.floor(verdict.expiresAt / 1000));
  return {
    iss: issuer,
    aud: audience,
    sub: verdict.subject,
    jti: encodeBase32(options.randomBytes(15)),
    vm: verdict.vmId,
    user: verdict.linuxUser,
    op: verdict.operation,
    epoch: verdict.epoch,
    acct_epoch: options.accountEpoch,
    vm_epoch: options.vmEpoch,
    read_at: Math.floor(Math.min(verdict.readAt, options.readAt ?? verdict.readAt) / 1000),
    iat,
    exp,
    azp: options.azp,
    host_url: options.hostUrl,
    cred: verdict.credentialId,
    ...(verdict.expiresAt === null ? {} : { cred_exp: Math.ceil(verdict.expiresAt / 1000) }),
    acct: verdict.accountId,
    ...(options.cnf === undefined ? {} : { cnf: { ssh: options.cnf.ssh } }),
  };
}
