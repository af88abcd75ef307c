import { failure, type Result, success } from "../../protocol/failures.ts";
import { LINK_PARAMETER, signHttpLink } from "../../protocol/http-link.ts";
import { vmHostname } from "../../protocol/vm-names.ts";
import { macKeysOf } from "../auth/mac-keys.ts";
import type { Edge } from "../edge.ts";
import { cameOverTls } from "../vm-names/visit.ts";
import { type FreshAuthority, locate } from "./authorise.ts";

export interface HttpLinkWish {
  /** The port of the guest; null: the one to which the VM's name without a port leads. */
  readonly port: number | null;
  /** Path and query to arrive at. */
  readonly path: string;
  readonly lifeS: number | null;
}

/**
 * A signed link to a VM's name: whoever opens it may visit the VM until it expires, or until the credential behind it may not any
 * more. `expiresAt`: milliseconds since 1970 UTC. `request`: the one that asks, which tells how this edge is reached.
 */
export async function mintHttpLink(
  edge: Edge,
  { verdict }: FreshAuthority,
  wish: HttpLinkWish,
  request: Request,
): Promise<Result<{ url: string; expiresAt: number }>> {
  const { VM_DOMAIN: domain = "" } = edge.env;
  if (domain === "") return failure("unsupported", "This deployment gives VMs no names: its VM_DOMAIN is empty.");
  const here = await locate(edge, verdict);
  if (!here.ok) return here;
  const { HTTP_LINK_LIFE_S, HTTP_LINK_MAX_LIFE_S } = edge.settings;
  const life = wish.lifeS ?? HTTP_LINK_LIFE_S;
  if (life > HTTP_LINK_MAX_LIFE_S) return failure("bad-request", `expiresInSeconds: is at most ${HTTP_LINK_MAX_LIFE_S}.`);
  const asked = new URL(request.url);
  const scheme = cameOverTls(asked, request.headers) ? "https" : "http";
  const origin = `${scheme}://${vmHostname(verdict.vmId, wish.port, domain)}${asked.port === "" ? "" : `:${asked.port}`}`;
  const url = URL.parse(origin + wish.path);
  if (url === null || url.origin !== new URL(origin).origin) return failure("bad-request", "path: must begin with a slash.");
  const end = Math.floor(edge.clock() / 1000) + life;
  const exp = verdict.expiresAt === null ? end : Math.min(end, Math.floor(verdict.expiresAt / 1000));
  const { vmId: vm, subject: sub, credentialId: cred } = verdict;
  url.searchParams.set(LINK_PARAMETER, await signHttpLink({ vm, port: wish.port, sub, cred, exp }, await macKeysOf(edge.env)));
  return success({ url: url.href, expiresAt: exp * 1000 });
}
