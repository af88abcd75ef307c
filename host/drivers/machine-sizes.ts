import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type MachineResources, machineResources } from "../../protocol/host-api.ts";
import { writeFileAtomically } from "../../service/atomic-file.ts";

/** Sizes given to machines after they were made, which the engine forgets when they stop: one file each. */
export class MachineSizes {
  readonly #dir: string;

  constructor(stateDir: string) {
    this.#dir = join(stateDir, "sizes");
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
  }

  /** Empty for a machine that still has the sizes that it was made with. */
  read(vmId: string): MachineResources {
    try {
      return machineResources.parse(JSON.parse(readFileSync(this.#path(vmId), "utf8")));
    } catch (error) {
      if ((error as { code?: unknown }).code === "ENOENT") return {};
      throw error;
    }
  }

  /** Adds to what was given before. */
  add(vmId: string, resources: MachineResources): void {
    writeFileAtomically(this.#path(vmId), JSON.stringify({ ...this.read(vmId), ...resources }));
  }

  remove(vmId: string): void {
    rmSync(this.#path(vmId), { force: true });
  }

  #path(vmId: string): string {
    return join(this.#dir, `${vmId}.json`);
  }
}
