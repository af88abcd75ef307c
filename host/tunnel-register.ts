import type { Clock } from "../protocol/bytes.ts";

/** A forwarder asks at once or never; a flood of ends may not take memory without end. */
const MOST_KEPT = 10_000;

/**
 * Tunnels by the id that only their forwarder was given: whose they are while they are open, and why they were cut. A tunnel's
 * bytes are the guest's, so what host and forwarder have to tell each other about it has no place in them.
 */
export class TunnelRegister {
  readonly #clock: Clock;
  readonly #keepMs: number;
  readonly #open = new Map<string, string>();
  readonly #ends = new Map<string, { readonly text: string; readonly at: number }>();

  /** `keepMs`: how long a reason is kept. */
  constructor(clock: Clock, keepMs: number) {
    this.#clock = clock;
    this.#keepMs = keepMs;
  }

  /** Until the returned function is called. */
  opened(id: string, vmId: string): () => void {
    this.#open.set(id, vmId);
    return () => this.#open.delete(id);
  }

  /** The VM that an open tunnel leads to. */
  vmOf(id: string): string | null {
    return this.#open.get(id) ?? null;
  }

  /** Notes why a tunnel is cut, for whoever is at its other end. */
  cut(id: string, why: string): void {
    this.#forgetOld();
    this.#ends.set(id, { text: why, at: this.#clock() });
  }

  /** The reason, or null: the tunnel is open, was closed by the guest or its forwarder, or is long gone. */
  whyCut(id: string): string | null {
    this.#forgetOld();
    return this.#ends.get(id)?.text ?? null;
  }

  #forgetOld(): void {
    const now = this.#clock();
    for (const [id, { at }] of this.#ends) {
      if (now - at < this.#keepMs && this.#ends.size < MOST_KEPT) break;
      this.#ends.delete(id);
    }
  }
}
