import { DriverError } from "../driver.ts";
import { formatAddress, type Network } from "./addressing.ts";

/** Which VM has which address on a guests' network. The truth is on the machines; this is filled from it. */
export class AddressBook {
  readonly #network: Network;
  readonly #byVm = new Map<string, string>();
  readonly #byAddress = new Map<string, string>();
  #next = 2;

  constructor(network: Network) {
    this.#network = network;
  }

  /** Gives a VM an address, the same one when it already has one. Throws `DriverError` `network` when none is left. */
  assign(vmId: string): string {
    const known = this.#byVm.get(vmId);
    if (known !== undefined) return known;
    const size = 2 ** (32 - this.#network.prefix);
    for (let tries = 0; tries < size; tries += 1) {
      const address = formatAddress(this.#network.base + this.#next);
      // Going round, rather than taking the lowest, keeps a deleted VM's address out of use for long.
      this.#next = this.#next + 1 >= size - 1 ? 2 : this.#next + 1;
      if (this.#byAddress.has(address)) continue;
      this.restore(vmId, address);
      return address;
    }
    throw new DriverError("network", "no address is left on the guests' network");
  }

  /** Takes in an address that a machine already has. */
  restore(vmId: string, address: string): void {
    this.#byVm.set(vmId, address);
    this.#byAddress.set(address, vmId);
  }

  release(vmId: string): void {
    const address = this.#byVm.get(vmId);
    if (address !== undefined) this.#byAddress.delete(address);
    this.#byVm.delete(vmId);
  }

  vmAt(address: string): string | null {
    return this.#byAddress.get(address) ?? null;
  }
}
