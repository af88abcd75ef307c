import { BlockList, isIP } from "node:net";
import { plainAddress } from "./limits.ts";

/** A list of networks in CIDR form, such as `10.0.0.0/8,fd00::/8`. */
export class Networks {
  readonly #list = new BlockList();
  readonly #text: string;

  /** Throws a `RangeError` that names a part that is no network. */
  constructor(text: string) {
    this.#text = text;
    for (const part of text.split(",").map((piece) => piece.trim())) {
      if (part !== "") this.#add(part);
    }
  }

  has(address: string): boolean {
    const plain = plainAddress(address);
    const version = isIP(plain);
    return version !== 0 && this.#list.check(plain, version === 6 ? "ipv6" : "ipv4");
  }

  toString(): string {
    return this.#text === "" ? "none" : this.#text;
  }

  #add(part: string): void {
    const [network = "", length, ...more] = part.split("/");
    const version = isIP(network);
    const bits = version === 6 ? 128 : 32;
    const prefix = length === undefined ? bits : Number(length);
    if (version === 0 || more.length > 0 || length === "" || !Number.isInteger(prefix) || prefix < 0 || prefix > bits) {
      throw new RangeError(`${part} is no network`);
    }
    this.#list.addSubnet(network, prefix, version === 6 ? "ipv6" : "ipv4");
  }
}
