import { Agent } from "node:http";
import type { Running } from "../machine.ts";

/** Idle connections to guests, kept for the next visitor: one pool for each run of a machine, gone when the run ends. */
export class GuestConnections {
  readonly #pools = new WeakMap<Running, Agent>();
  readonly #idleMs: number;

  /** `idleMs`: how long an idle connection is kept. */
  constructor(idleMs: number) {
    this.#idleMs = idleMs;
  }

  of(running: Running): Agent {
    const known = this.#pools.get(running);
    if (known !== undefined) return known;
    const pool = new Agent({ keepAlive: true, timeout: this.#idleMs });
    this.#pools.set(running, pool);
    running.down.addEventListener("abort", () => pool.destroy(), { once: true });
    return pool;
  }
}
