import { TUNNEL_HEADER } from "../protocol/headers.ts";
import { tunnelEnd } from "../protocol/host-api.ts";
import type { Tunnel } from "./tunnel.ts";

/** What host and forwarder call a tunnel between them. */
export type TunnelName = Pick<Tunnel, "hostUrl" | "id">;

const LOST = "The connection to the VM was lost.";
const HOST_GONE = "The VM's host is restarting or cannot be reached. Connect again in a moment.";

/**
 * Tells the host that somebody types through a tunnel, which is use of the VM however few bytes it is. A host that is not told is
 * one that has other troubles.
 */
export async function tellTyped({ hostUrl, id }: TunnelName, timeoutMs: number): Promise<void> {
  if (id === null) return;
  const signal = AbortSignal.timeout(timeoutMs);
  await fetch(`${hostUrl}/tunnel/use`, { method: "POST", headers: { [TUNNEL_HEADER]: id }, signal }).then(
    (response) => response.body?.cancel(),
    () => undefined,
  );
}

/**
 * Why a tunnel that broke did, in words for the person at the other end: what its host says, and if the host cannot be reached
 * either, that. Takes at most `timeoutMs`.
 */
export async function whyTunnelEnded({ hostUrl, id }: TunnelName, timeoutMs: number): Promise<string> {
  if (id === null) return LOST;
  let answer: unknown;
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await fetch(`${hostUrl}/tunnel/end`, { headers: { [TUNNEL_HEADER]: id }, signal });
    answer = await response.json();
  } catch (error) {
    return error instanceof SyntaxError ? LOST : HOST_GONE;
  }
  const read = tunnelEnd.safeParse(answer);
  return read.success && read.data.reason !== null ? read.data.reason : LOST;
}
