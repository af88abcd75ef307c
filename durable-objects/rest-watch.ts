import { settlesWithin } from "./time-limit.ts";
import type { VmState } from "./vm-contract.ts";
import { isResting } from "./vm-lifecycle.ts";

/** Callers that wait for a VM to come to rest. In memory only: whoever waits asks again after a crash. */
export class RestWatch {
  #next: PromiseWithResolvers<void> | null = null;

  /** Waits until the VM is told to be at rest, for at most `ms` milliseconds. */
  async wait(ms: number): Promise<void> {
    this.#next ??= Promise.withResolvers<void>();
    await settlesWithin(this.#next.promise, ms);
  }

  /** Called with every state that the VM takes. */
  tell(state: VmState): void {
    if (!isResting(state)) return;
    this.#next?.resolve();
    this.#next = null;
  }
}
