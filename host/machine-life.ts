/** What stays connected to a machine while it sleeps. */
export interface Companion {
  /**
   * The machine is about to sleep, or sleeps: from this call on nothing may be sent to it. Resolves when nothing is on its way
   * to it any more, or after a bounded time.
   */
  holdStill(): Promise<void>;
  /** It runs again: what waited may be sent. */
  goOn(): void;
}

/** Why a life ended, in words for whoever was connected: the reason of `MachineLife.over`. */
export class LifeOver extends Error {}

/**
 * A machine's memory from its start to its loss, however often it sleeps in between. Connections into the machine can last as
 * long as this does.
 */
export class MachineLife {
  readonly #over = new AbortController();
  readonly #companions = new Set<Companion>();
  #asleep = false;

  /** Aborts with a `LifeOver` when the memory is lost: the machine was stopped, deleted, or went down. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Tells a companion of every sleep and wake until the returned function is called; at once if the machine sleeps now. */
  join(companion: Companion): () => void {
    this.#companions.add(companion);
    if (this.#asleep) void companion.holdStill();
    return () => this.#companions.delete(companion);
  }

  /** Resolves when nothing is on its way to the machine. */
  async fallAsleep(): Promise<void> {
    this.#asleep = true;
    await Promise.all([...this.#companions].map((companion) => companion.holdStill()));
  }

  wakeUp(): void {
    this.#asleep = false;
    for (const companion of this.#companions) companion.goOn();
  }

  /** `why` is for whoever is connected. Only the first call counts. */
  end(why: string): void {
    if (!this.#over.signal.aborted) this.#over.abort(new LifeOver(why));
  }
}
