/**
 * How many tunnels each VM has, and a place for one more. A place is taken before the VM is woken for it, so that any
 * number of tunnels that arrive together cannot pass the limit together.
 */
export class TunnelPlaces {
  readonly #perVm: number;
  readonly #taken = new Map<string, number>();

  /** `perVm`: most tunnels into one VM at once. */
  constructor(perVm: number) {
    this.#perVm = perVm;
  }

  /** Takes a place; calling the answer, once or more, gives it back. Null when the VM has no more. */
  take(vmId: string): (() => void) | null {
    const taken = this.#taken.get(vmId) ?? 0;
    if (taken >= this.#perVm) return null;
    this.#taken.set(vmId, taken + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const left = (this.#taken.get(vmId) ?? 1) - 1;
      if (left === 0) this.#taken.delete(vmId);
      else this.#taken.set(vmId, left);
    };
  }
}
