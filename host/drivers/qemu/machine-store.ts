import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { machineResources } from "../../../protocol/host-api.ts";
import { isVmId } from "../../../protocol/ids.ts";
import { writeFileAtomically } from "../../../service/atomic-file.ts";

const record = z.object({
  vmId: z.string().refine(isVmId),
  address: z.string(),
  internet: z.boolean(),
  /** `making`: it holds nothing worth keeping if its maker is interrupted. */
  phase: z.enum(["making", "made"]),
  /** Sizes from the next start on. */
  resources: machineResources,
  /** Hardware that its process, or its memory on disk, has. */
  running: z.object({ machineType: z.string(), cpus: z.int(), memoryMib: z.int() }),
});
export type VmFile = Readonly<z.infer<typeof record>>;

/** Files of one machine on disk. */
export interface VmPaths {
  readonly dir: string;
  readonly disk: string;
  readonly seed: string;
  /** Memory of a machine that sleeps; there only while it does. */
  readonly memory: string;
  readonly console: string;
}

/** The machines of a qemu driver on disk: a folder each. */
export class VmStore {
  readonly #dir: string;

  constructor(stateDir: string) {
    this.#dir = join(stateDir, "machines");
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
  }

  paths(vmId: string): VmPaths {
    const dir = join(this.#dir, vmId);
    return {
      dir,
      disk: join(dir, "disk.qcow2"),
      seed: join(dir, "seed"),
      memory: join(dir, "memory"),
      console: join(dir, "console.log"),
    };
  }

  list(): readonly VmFile[] {
    return readdirSync(this.#dir)
      .filter(isVmId)
      .flatMap((vmId) => this.read(vmId) ?? []);
  }

  read(vmId: string): VmFile | null {
    try {
      return record.parse(JSON.parse(readFileSync(this.#file(vmId), "utf8")));
    } catch (error) {
      // A folder without a record is one whose machine was about to be made or deleted.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
  }

  save(vm: VmFile): void {
    mkdirSync(this.paths(vm.vmId).dir, { recursive: true, mode: 0o700 });
    writeFileAtomically(this.#file(vm.vmId), `${JSON.stringify(vm)}\n`);
  }

  remove(vmId: string): void {
    // The record last: what is left of a machine must be known to be one.
    const { disk, seed, memory, console, dir } = this.paths(vmId);
    for (const path of [disk, seed, memory, console]) rmSync(path, { force: true });
    rmSync(dir, { recursive: true, force: true });
  }

  #file(vmId: string): string {
    return join(this.#dir, vmId, "machine.json");
  }
}
