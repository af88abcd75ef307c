import type { MachineState } from "../../protocol/host-api.ts";
import { takeSnapshot } from "../../protocol/host-api.ts";
import type { Operation } from "../../protocol/operations.ts";
import type { Admitted } from "../system/verifying-host.ts";

/**
 * Where calls are held until `open`, and what becomes of them then: held before they are carried out, which is done later or never, or
 * after, and then answered.
 */
export type Gate = "do it later" | "never do it" | "answer later";

/** Machines that are nothing but their states, of a host whose calls can be held; reads never are. */
export class GatedMachines {
  readonly states = new Map<string, MachineState>();
  readonly snapshots = new Set<string>();
  /** The calls that change something, since the last `forget`. */
  calls: { readonly vmId: string; readonly operation: Operation; readonly at: number }[] = [];
  #gate: Gate | null = null;
  #held: (() => void)[] = [];

  readonly carryOut = async (asked: Admitted): Promise<object | null> => {
    const { vmId, operation } = asked;
    if (operation !== "read") {
      this.calls.push({ vmId, operation, at: performance.now() });
      const gate = this.#gate;
      if (gate === "answer later") this.#act(asked);
      if (gate !== null) await new Promise<void>((resolve) => this.#held.push(resolve));
      if (gate === "never do it") return null;
      if (gate !== "answer later") this.#act(asked);
    }
    return operation === "snapshot" ? {} : { state: this.states.get(vmId) ?? "missing", at: Date.now() };
  };

  close(gate: Gate): void {
    this.#gate = gate;
  }

  get held(): number {
    return this.#held.length;
  }

  open(): void {
    this.#gate = null;
    for (const release of this.#held.splice(0)) release();
  }

  forget(): void {
    this.calls = [];
  }

  #act({ vmId, operation, method, rest, body }: Admitted): void {
    if (operation === "create" || operation === "start") this.states.set(vmId, "running");
    else if (operation === "suspend") this.states.set(vmId, "suspended");
    else if (operation === "delete") this.states.delete(vmId);
    else if (method === "POST") this.snapshots.add(takeSnapshot.parse(JSON.parse(body)).snapshotId);
    else this.snapshots.delete(rest[1] ?? "");
  }
}
