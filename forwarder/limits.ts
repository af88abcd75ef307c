import { isIPv6 } from "node:net";

/** Bounds on connections; see the settings of the same names. */
export interface ConnectionLimits {
  readonly maxConnections: number;
  readonly maxPerAddress: number;
  readonly unauthenticatedStart: number;
  readonly unauthenticatedFull: number;
  readonly unauthenticatedPerAddress: number;
}

/** A connection's place. `loggedIn` and `release` may each be called any number of times. */
export interface Place {
  loggedIn(): void;
  release(): void;
}

interface AddressCount {
  all: number;
  unauthenticated: number;
}

/**
 * Decides which connections to keep before anything is read from them. Between `unauthenticatedStart` and
 * `unauthenticatedFull` a new one is dropped with a rising chance (OpenSSH's MaxStartups), so that a flood cannot lock
 * everybody out.
 */
export class ConnectionGate {
  readonly #limits: ConnectionLimits;
  readonly #random: () => number;
  readonly #addresses = new Map<string, AddressCount>();
  #all = 0;
  #unauthenticated = 0;

  /** `random`: uniform in [0, 1). */
  constructor(limits: ConnectionLimits, random: () => number) {
    this.#limits = limits;
    this.#random = random;
  }

  /** A place for a connection from this address, or null: drop it. */
  admit(address: string): Place | null {
    const group = addressGroup(address);
    const count = this.#addresses.get(group) ?? { all: 0, unauthenticated: 0 };
    const limits = this.#limits;
    if (this.#all >= limits.maxConnections || count.all >= limits.maxPerAddress) return null;
    if (count.unauthenticated >= limits.unauthenticatedPerAddress || this.#dropsEarly()) return null;
    this.#addresses.set(group, count);
    this.#all += 1;
    this.#unauthenticated += 1;
    count.all += 1;
    count.unauthenticated += 1;
    return this.#place(group, count);
  }

  /** Connections held now. */
  get connections(): number {
    return this.#all;
  }

  #place(group: string, count: AddressCount): Place {
    let unauthenticated = true;
    let held = true;
    const loggedIn = () => {
      if (!unauthenticated) return;
      unauthenticated = false;
      this.#unauthenticated -= 1;
      count.unauthenticated -= 1;
    };
    const release = () => {
      if (!held) return;
      held = false;
      loggedIn();
      this.#all -= 1;
      count.all -= 1;
      if (count.all === 0) this.#addresses.delete(group);
    };
    return { loggedIn, release };
  }

  #dropsEarly(): boolean {
    const { unauthenticatedStart: start, unauthenticatedFull: full } = this.#limits;
    if (this.#unauthenticated >= full) return true;
    if (this.#unauthenticated < start) return false;
    return this.#random() < (this.#unauthenticated - start + 1) / (full - start + 1);
  }
}

/** An IPv4 address that a dual-stack socket wrote as an IPv6 one, as itself; any other unchanged. */
export function plainAddress(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;
}

/** Who is counted as one: an IPv4 address, or the /64 of an IPv6 one, since that is what a single customer is given. */
export function addressGroup(address: string): string {
  const plain = plainAddress(address);
  if (!isIPv6(plain)) return plain;
  const [head = "", tail] = plain.split("%")[0]?.split("::") ?? [];
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const middle = tail === undefined ? [] : Array<string>(Math.max(0, 8 - left.length - right.length)).fill("0");
  return `${[...left, ...middle, ...right]
    .slice(0, 4)
    .map((part) => Number.parseInt(part, 16).toString(16))
    .join(":")}::/64`;
}
