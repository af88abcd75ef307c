import { z } from "zod";
import type { Driver, DriverState, Machine } from "../../host/driver.ts";

/** What is done to a virtual machine. */
export const OPERATIONS = [
  "create",
  "create other size",
  "start",
  "wake",
  "pause",
  "stop",
  "resize",
  "snapshot",
  "delete",
] as const;
export type Operation = (typeof OPERATIONS)[number];

/**
 * One operation and what happens to it. `whole`: nothing, and its steps are told; `before` and `amid`: the agent is killed before or
 * right after the step; `qemu`: the machine's QEMU is, before the step.
 */
export const crashCase = z.object({
  operation: z.enum(OPERATIONS),
  /** Counted from 1; 0 for `whole`. */
  step: z.int(),
  mode: z.enum(["whole", "before", "amid", "qemu"]),
});
export type CrashCase = Readonly<z.infer<typeof crashCase>>;

interface Way {
  /** How a machine must be for it; null: not there. */
  readonly from: DriverState | null;
  readonly run: (driver: Driver, vmId: string, snapshotId: string) => Promise<unknown>;
  /** How it is afterwards. */
  readonly to: DriverState | null;
  /** How it may be when the agent was killed in the middle. */
  readonly amid: readonly (DriverState | null)[];
  /** Its steps in order, as `nameSteps` names them. */
  readonly steps: readonly string[];
}

/** Smaller than the golden machine, so that it boots. */
const OTHER_MIB = 256;
const files = [{ path: "/etc/seeded", mode: 0o600, content: "seed" }];

const spawned = ["qemu-system-x86_64", "nft", "ip"];
const made = ["rename to machine.json", "write seed", "qemu-img", ...spawned];
const becameMade = ["write seed", "rename to machine.json"];
const loaded = ["qmp migrate-set-capabilities", "qmp migrate-incoming"];

export const WAYS: Readonly<Record<Operation, Way>> = {
  create: {
    from: null,
    run: (driver, vmId) => driver.create({ vmId, files }),
    to: "running",
    amid: [null, "running"],
    steps: [...made, ...loaded, "qmp cont", "guest adopt", ...becameMade],
  },
  "create other size": {
    from: null,
    run: (driver, vmId) => driver.create({ vmId, files, resources: { memory: OTHER_MIB } }),
    to: "running",
    amid: [null, "running"],
    steps: [...made, "qmp cont", ...becameMade],
  },
  start: {
    from: "stopped",
    run: (driver, vmId) => driver.start(vmId),
    to: "running",
    amid: ["stopped", "running"],
    steps: ["rename to machine.json", "rm ID", ...spawned, "qmp cont"],
  },
  wake: {
    from: "paused",
    run: (driver, vmId) => driver.start(vmId),
    to: "running",
    // Never stopped: its memory would be lost.
    amid: ["paused", "running"],
    steps: ["rm ID", ...spawned, ...loaded, "rm memory", "qmp cont"],
  },
  pause: {
    from: "running",
    run: (driver, vmId) => driver.pause(vmId),
    to: "paused",
    amid: ["running", "paused"],
    steps: [
      "guest sync",
      "qmp stop",
      "qmp migrate-set-parameters",
      "qmp migrate-set-capabilities",
      "qmp migrate",
      "write memory.new",
      "rename to memory",
      "qmp quit",
      "ip",
    ],
  },
  stop: {
    from: "running",
    run: (driver, vmId) => driver.stop(vmId),
    to: "stopped",
    amid: ["running", "stopped"],
    steps: ["guest off", "kill", "ip"],
  },
  resize: {
    from: "stopped",
    run: (driver, vmId) => driver.resize(vmId, { memory: OTHER_MIB }),
    to: "stopped",
    amid: ["stopped"],
    steps: ["rename to machine.json"],
  },
  snapshot: {
    from: "running",
    run: (driver, vmId, snapshotId) => driver.snapshot(vmId, snapshotId),
    to: "running",
    amid: ["running"],
    steps: ["guest sync", "qmp stop", "cp", "rename to ID.qcow2", "qmp cont"],
  },
  delete: {
    from: "running",
    run: (driver, vmId) => driver.delete(vmId),
    to: null,
    amid: ["running", "stopped", null],
    steps: ["kill", "rm ID", "ip", "rm disk.qcow2", "rm seed", "rm console.log", "rm ID"],
  },
};

/** Brings a machine to where the operation begins. */
export async function prepare(driver: Driver, operation: Operation, vmId: string): Promise<void> {
  const { from } = WAYS[operation];
  const found: Machine | null = await driver.inspect(vmId);
  if ((found?.state ?? null) === from) return;
  if (from === null) return driver.delete(vmId);
  if (found === null) await driver.create({ vmId, files: [] });
  else await driver.start(vmId);
  if (from === "paused") await driver.pause(vmId);
  if (from === "stopped") await driver.stop(vmId);
}
