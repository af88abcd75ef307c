import type { Socket } from "node:net";
import { pump } from "../service/pump.ts";

export interface SpliceOptions {
  /** Aborts when the machine goes down. */
  readonly down: AbortSignal;
  /** TCP keepalive, in milliseconds, so that a peer that vanished without a word is noticed. */
  readonly keepaliveMs: number;
}

/**
 * Copies bytes both ways between two half-open sockets: backpressure passes through, and so does an end of file in one
 * direction while the other still flows. A broken leg breaks the other. `closed` is called once, when both are gone.
 */
export function splice(left: Socket, right: Socket, { down, keepaliveMs }: SpliceOptions, closed: () => void): void {
  let open = 0;
  const cut = () => {
    left.destroy();
    right.destroy();
  };
  const onClose = (hadError: boolean) => {
    // A leg that closed in order has passed its end on already; what the other still has to send may take its time.
    if (hadError) cut();
    open -= 1;
    if (open > 0) return;
    down.removeEventListener("abort", cut);
    closed();
  };
  for (const leg of [left, right]) {
    if (leg.closed) continue;
    open += 1;
    leg.setKeepAlive(true, keepaliveMs);
    leg.setNoDelay(true);
    leg.on("error", cut);
    leg.on("close", onClose);
  }
  down.addEventListener("abort", cut, { once: true });
  pump(left, right);
  pump(right, left);
  // Either may have gone while the other was prepared: then its events are past.
  if (down.aborted || left.destroyed || right.destroyed) cut();
  if (open === 0) closed();
}
