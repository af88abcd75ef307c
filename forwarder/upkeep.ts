import type { Clock } from "../protocol/bytes.ts";

/** Bounds of a session's keys and silence; see the settings of the same names. */
export interface UpkeepLimits {
  readonly rekeyBytes: number;
  readonly rekeyMs: number;
  readonly keepaliveMs: number;
}

/** What upkeep may do to the client's connection. */
export interface UpkeepActions {
  /** Begins a key exchange. */
  rekey(): void;
  /** Sends something that the client ignores, so that whatever is in between sees life. */
  keepAlive(): void;
}

/**
 * Decides when a connection gets new keys (RFC 4253 section 9: after a gigabyte or an hour) and when a silent one is shown
 * to be alive. Nothing is sent towards the VM: that would keep an idle VM awake.
 */
export class Upkeep {
  readonly #limits: UpkeepLimits;
  readonly #actions: UpkeepActions;
  readonly #clock: Clock;
  #bytes = 0;
  #keysSince: number;
  #spokeAt: number;

  constructor(limits: UpkeepLimits, actions: UpkeepActions, clock: Clock) {
    this.#limits = limits;
    this.#actions = actions;
    this.#clock = clock;
    this.#keysSince = clock();
    this.#spokeAt = this.#keysSince;
  }

  /** A payload came from the client. */
  received(bytes: number): void {
    this.#carry(bytes);
  }

  /** A payload went to the client. */
  sent(bytes: number): void {
    this.#spokeAt = this.#clock();
    this.#carry(bytes);
  }

  /** To be called every so often, at least twice in the shortest of the times. */
  tick(): void {
    const now = this.#clock();
    if (now - this.#keysSince >= this.#limits.rekeyMs) this.#rekey();
    if (now - this.#spokeAt < this.#limits.keepaliveMs) return;
    this.#spokeAt = now;
    this.#actions.keepAlive();
  }

  #carry(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes >= this.#limits.rekeyBytes) this.#rekey();
  }

  #rekey(): void {
    this.#bytes = 0;
    this.#keysSince = this.#clock();
    this.#actions.rekey();
  }
}
