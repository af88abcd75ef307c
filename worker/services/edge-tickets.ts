import { type Result, success } from "../../protocol/failures.ts";
import { Lru } from "../cache/lru.ts";
import type { Edge } from "../edge.ts";
import { tell } from "../objects.ts";
import { mintTicket } from "../tickets/mint.ts";
import { edgeTicketLifeS, optionsOf, readAtOf, type TicketBasis } from "./ticket-basis.ts";

interface KeptTicket {
  readonly text: string;
  /** What it was signed for, and by whom. */
  readonly basis: TicketBasis;
  readonly issuer: string;
  /** Milliseconds since 1970 UTC. */
  readonly expiresAt: number;
}

/** A ticket for a call that the edge itself makes. `isReused`: it was signed for an earlier call. */
export interface EdgeTicket {
  readonly text: string;
  readonly isReused: boolean;
}

const kept = new Lru<KeptTicket>();

/**
 * A ticket for a call that the edge itself makes to the VM's host. Bound to the edge, it may be used again for the same
 * verdict, place and account until near its end, so that a burst signs once.
 */
export async function edgeTicket(edge: Edge, basis: TicketBasis): Promise<Result<EdgeTicket>> {
  const key = keyOf(basis);
  const known = kept.get(key);
  const { TICKET_REUSE_MARGIN_MS: marginMs, VERDICT_CACHE_ENTRIES: maxEntries } = edge.settings;
  const now = edge.clock();
  const issuer = edge.env.ISSUER;
  if (known?.issuer === issuer && isFor(known, basis) && now < known.expiresAt - marginMs) {
    edge.timing.addInstant("ticket", "reused");
    return success({ text: known.text, isReused: true });
  }
  const startedAt = edge.timing.now();
  const lifeS = edgeTicketLifeS(readAtOf(basis), now, edge.settings);
  const options = { ...optionsOf(basis), azp: "edge" as const, lifeS, now, randomBytes: edge.randomBytes };
  const minted = await tell(async () => success(await mintTicket(edge.env, basis.verdict, options)));
  if (!minted.ok) return minted;
  const { ticket: text, claims } = minted.value;
  kept.set(key, { text, basis, issuer, expiresAt: claims.exp * 1000 }, maxEntries);
  edge.timing.add("ticket", startedAt, "signed");
  return success({ text, isReused: false });
}

/** Makes sure that the next call of this verdict signs a new ticket. */
export function forgetTicket(basis: TicketBasis): void {
  kept.delete(keyOf(basis));
}

/** Forgets every ticket; for tests, whose signing keys come and go within one isolate. */
export function forgetTickets(): void {
  kept.clear();
}

function keyOf({ verdict: { credentialId, vmId, operation, linuxUser } }: TicketBasis): string {
  return `${credentialId} ${vmId} ${operation} ${linuxUser ?? "-"}`;
}

/** Whether a ticket would say the same if it were signed now. Facts that are kept are mostly the same objects, else what they say counts. */
function isFor({ basis: { verdict, placement, tenancy }, basis }: KeptTicket, wanted: TicketBasis): boolean {
  const isSame = verdict === wanted.verdict && placement === wanted.placement && tenancy === wanted.tenancy;
  return isSame || saidOf(basis) === saidOf(wanted);
}

function saidOf(basis: TicketBasis): string {
  const { verdict, placement, tenancy } = basis;
  const { hostId, hostUrl } = placement;
  return `${verdict.subject} ${verdict.epoch} ${tenancy.epoch} ${placement.epoch} ${readAtOf(basis)} ${hostId} ${hostUrl}`;
}
