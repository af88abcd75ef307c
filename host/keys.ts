import type { Clock } from "../protocol/bytes.ts";

interface PublishedKey {
  readonly line: string;
  /** Milliseconds since 1970 UTC. */
  readonly until: number;
}

/** Withdraws one publication; repeating it changes nothing. */
export type Withdraw = () => void;

/**
 * The SSH keys that guests admit at the moment, per VM and Linux user. A guest's sshd asks for them through metadata at
 * every login; a key is there only around one login and never longer than `lifetimeMs`.
 */
export class PublishedKeys {
  readonly #clock: Clock;
  readonly #lifetimeMs: number;
  readonly #keys = new Map<string, Set<PublishedKey>>();

  constructor(clock: Clock, lifetimeMs: number) {
    this.#clock = clock;
    this.#lifetimeMs = lifetimeMs;
  }

  /** Admits a key for one Linux user of one VM. `line` must be a checked `ssh-ed25519 <base64>`. */
  publish(vmId: string, linuxUser: string, line: string): Withdraw {
    const place = placeOf(vmId, linuxUser);
    this.#prune(place);
    const keys = this.#keys.get(place) ?? new Set();
    this.#keys.set(place, keys);
    const key = { line, until: this.#clock() + this.#lifetimeMs };
    keys.add(key);
    return () => {
      keys.delete(key);
      if (keys.size === 0 && this.#keys.get(place) === keys) this.#keys.delete(place);
    };
  }

  /** The key lines that are admitted now for a Linux user of a VM, each once. */
  list(vmId: string, linuxUser: string): string[] {
    const place = placeOf(vmId, linuxUser);
    this.#prune(place);
    return [...new Set([...(this.#keys.get(place) ?? [])].map((key) => key.line))];
  }

  #prune(place: string): void {
    const keys = this.#keys.get(place);
    if (keys === undefined) return;
    const now = this.#clock();
    for (const key of keys) {
      if (key.until <= now) keys.delete(key);
    }
    if (keys.size === 0) this.#keys.delete(place);
  }
}

function placeOf(vmId: string, linuxUser: string): string {
  return `${vmId}/${linuxUser}`;
}
