import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { idlePolicy, machineResources } from "../protocol/host-api.ts";
import { isVmId } from "../protocol/ids.ts";
import { writeFileAtomically } from "../service/atomic-file.ts";

const machineRecord = z.object({
  vmId: z.string().refine(isVmId),
  /** `creating`: the machine may be half made. Such a record that outlives its process is undone at the next start. */
  phase: z.enum(["creating", "ready"]),
  /** The guest's SSH host key, `ssh-ed25519 <base64>`; the private half exists in the guest only. */
  hostKey: z.string(),
  /** As they were chosen; the driver's own where absent. */
  resources: machineResources.default({}),
  /** When the machine is put to sleep by itself. */
  idle: idlePolicy.default({ idleTimeoutSeconds: null, activityThresholdBytes: null }),
  /** Milliseconds since 1970 UTC. */
  createdAt: z.number(),
});

/** What the host must remember of a VM beyond what its driver knows. */
export type MachineRecord = Readonly<z.infer<typeof machineRecord>>;

/** The records of a host's VMs: one file each, mode 0600, in `<state>/vms`. */
export class RecordStore {
  readonly #dir: string;

  constructor(stateDir: string) {
    this.#dir = join(stateDir, "vms");
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
  }

  /** Every record. Throws on a damaged one: losing it silently would orphan a machine. */
  list(): MachineRecord[] {
    return readdirSync(this.#dir)
      .filter((name) => name.endsWith(".json"))
      .map((name) => machineRecord.parse(JSON.parse(readFileSync(join(this.#dir, name), "utf8"))));
  }

  /** The record of a VM, or null. */
  read(vmId: string): MachineRecord | null {
    const path = this.#path(vmId);
    return existsSync(path) ? machineRecord.parse(JSON.parse(readFileSync(path, "utf8"))) : null;
  }

  save(record: MachineRecord): void {
    writeFileAtomically(this.#path(record.vmId), `${JSON.stringify(record)}\n`);
  }

  remove(vmId: string): void {
    rmSync(this.#path(vmId), { force: true });
  }

  #path(vmId: string): string {
    return join(this.#dir, `${vmId}.json`);
  }
}
