import { failure, type Result, success } from "../../protocol/failures.ts";
import type { TicketClaims } from "../../protocol/ticket.ts";
import type { Edge } from "../edge.ts";
import { accountObject, ask, tell } from "../objects.ts";
import type { TicketOptions } from "../tickets/claims.ts";
import { mintTicket } from "../tickets/mint.ts";
import { type FreshAuthority, locate } from "./authorise.ts";
import { sshKeyFingerprint } from "./ssh-key.ts";
import { optionsOf, type TicketBasis } from "./ticket-basis.ts";

type Holder = Pick<TicketOptions, "azp" | "forwarderRegion" | "cnf" | "lifeS">;

interface Minted {
  readonly ticket: string;
  readonly claims: TicketClaims;
}

/** A ticket that one forwarder may show to the VM's host, for one SSH login. A forwarder speaks for its own region only. */
export async function forwarderTicket(
  edge: Edge,
  authority: FreshAuthority,
  forwarder: { readonly id: string; readonly region: string },
): Promise<Result<string>> {
  const basis = await readBasis(edge, authority);
  if (!basis.ok) return basis;
  const { region } = basis.value.placement;
  if (region !== forwarder.region) {
    return failure("forbidden", `This VM is in the region "${region}": connect to the SSH gateway of that region.`);
  }
  const holder: Holder = { azp: `forwarder:${forwarder.id}`, forwarderRegion: forwarder.region };
  const minted = await mint(edge, basis.value, holder);
  return minted.ok ? success(minted.value.ticket) : minted;
}

/** A ticket for a client's own hands: single-use, good at any forwarder of the VM's region, bound to a key if one is named. */
export interface ClientTicket {
  readonly ticket: string;
  /** Milliseconds since 1970 UTC. */
  readonly expiresAt: number;
  /** The SSH user name that goes with it, `<vm>+<linux user>`. The ticket is the password. */
  readonly user: string;
}

export async function clientTicket(edge: Edge, authority: FreshAuthority, publicKey: string | null): Promise<Result<ClientTicket>> {
  const ssh = publicKey === null ? null : await sshKeyFingerprint(publicKey);
  if (publicKey !== null && ssh === null) return failure("bad-request", "publicKey: is not an OpenSSH public key line.");
  const basis = await readBasis(edge, authority);
  if (!basis.ok) return basis;
  const { region } = basis.value.placement;
  const holder: Holder = { azp: "client", forwarderRegion: region, ...(ssh === null ? {} : { cnf: { ssh } }) };
  const minted = await mint(edge, basis.value, holder);
  if (!minted.ok) return minted;
  const { ticket, claims } = minted.value;
  return success({ ticket, expiresAt: claims.exp * 1000, user: `${claims.vm}+${claims.user}` });
}

/** A ticket for a client's own hands: single-use, for one terminal's WebSocket. `expiresAt`: milliseconds since 1970 UTC. */
export async function terminalTicket(
  edge: Edge,
  authority: FreshAuthority,
): Promise<Result<{ ticket: string; expiresAt: number }>> {
  const basis = await readBasis(edge, authority);
  if (!basis.ok) return basis;
  const holder: Holder = { azp: "client", lifeS: edge.settings.TERMINAL_TICKET_LIFE_S };
  const minted = await mint(edge, basis.value, holder);
  return minted.ok ? success({ ticket: minted.value.ticket, expiresAt: minted.value.claims.exp * 1000 }) : minted;
}

/** What a ticket in somebody else's hands hangs on, all of it read for this request. */
async function readBasis(edge: Edge, { verdict }: FreshAuthority): Promise<Result<TicketBasis>> {
  const [placement, tenancy] = await Promise.all([
    locate(edge, verdict),
    ask(() => accountObject(edge.env, verdict.accountId).tenancy()),
  ]);
  if (!tenancy.ok) return tenancy;
  return placement.ok ? success({ verdict, placement: placement.value, tenancy: tenancy.value }) : placement;
}

function mint(edge: Edge, basis: TicketBasis, holder: Holder): Promise<Result<Minted>> {
  const { verdict } = basis;
  const options = { ...optionsOf(basis), ...holder, now: edge.clock(), randomBytes: edge.randomBytes };
  return tell(async () => success(await mintTicket(edge.env, verdict, options)));
}
