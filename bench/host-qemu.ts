import { readdirSync, readFileSync } from "node:fs";
import { createQemuDriver } from "../host/drivers/qemu/qemu.ts";
import { createLog } from "../service/log.ts";
import { CACHE_DIR, openWorld, type TestMachine, type World } from "../test/guest/guest-world.ts";
import { type Benchmark, median } from "./figure.ts";

const ROUNDS = 5;

interface Times {
  readonly createMs: readonly number[];
  readonly wakeMs: readonly number[];
  readonly bootMs: readonly number[];
  /** Memory of this host that a machine takes alone, MiB, while it runs and while it sleeps. */
  readonly runningMib: readonly number[];
  readonly sleepingMib: readonly number[];
}

let measured: Promise<Times> | null = null;

/** Virtual machines of a driver of their own, each made, put to sleep, woken, and booted cold, in turns; once for all figures. */
function times(): Promise<Times> {
  measured ??= withWorld(async (world) => {
    const all = { createMs: [], wakeMs: [], bootMs: [], runningMib: [], sleepingMib: [] } as Record<keyof Times, number[]>;
    for (let round = 0; round < ROUNDS; round += 1) {
      let vm: TestMachine | null = null;
      all.createMs.push(
        await untilExec(world, async () => {
          vm = await world.createVm();
          return vm;
        }),
      );
      const { vmId } = vm ?? fail();
      all.runningMib.push(memoryOf(vmId));
      await world.driver.pause(vmId);
      all.sleepingMib.push(memoryOf(vmId));
      all.wakeMs.push(await untilExec(world, () => world.driver.start(vmId)));
      await world.driver.stop(vmId);
      all.bootMs.push(await untilExec(world, () => world.driver.start(vmId)));
      await world.driver.delete(vmId);
    }
    return all;
  });
  return measured;
}

async function withWorld<T>(use: (world: World) => Promise<T>): Promise<T> {
  const log = createLog(() => undefined);
  const world = await openWorld((stateDir) => createQemuDriver({ stateDir, cacheDir: CACHE_DIR, log }));
  try {
    return await use(world);
  } finally {
    await world.close();
  }
}

/** From asking the driver until a first command's output is here. */
async function untilExec(world: World, start: () => Promise<{ readonly address: string }>): Promise<number> {
  const before = performance.now();
  const machine = await start();
  const answer = await world.ssh(machine, "echo up");
  if (answer.stdout !== "up\n") throw new Error(`the machine did not answer: ${answer.stderr}`);
  return performance.now() - before;
}

/** Proportional memory (`Pss` of proc_pid_smaps(5)) of every process that names the machine. */
function memoryOf(vmId: string): number {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const kib = pids.map((pid) => {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(vmId)) return 0;
      return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0);
    } catch {
      return 0;
    }
  });
  return kib.reduce((sum, one) => sum + one, 0) / 1024;
}

function fail(): never {
  throw new Error("no machine was made");
}

/** A new machine, a copy of the golden one, until its first command; against the same machine booted from its disk. */
export const hostQemuCreate: Benchmark = {
  id: "host.qemu.create_ms",
  against: "cold boot of the same machine",
  measure: async () => {
    const { createMs, bootMs } = await times();
    return { value: median(createMs), baseline: median(bootMs), unit: "ms" };
  },
};

/** A sleeping machine until its first command; against the same. */
export const hostQemuWake: Benchmark = {
  id: "host.qemu.wake_p50_ms",
  against: "cold boot of the same machine",
  measure: async () => {
    const { wakeMs, bootMs } = await times();
    return { value: median(wakeMs), baseline: median(bootMs), unit: "ms" };
  },
};

/** Memory that a sleeping machine takes; against one that has just been made and runs. */
export const hostQemuAsleep: Benchmark = {
  id: "host.qemu.asleep_mib",
  against: "running machine",
  measure: async () => {
    const { sleepingMib, runningMib } = await times();
    return { value: median(sleepingMib), baseline: median(runningMib), unit: "MiB" };
  },
};
