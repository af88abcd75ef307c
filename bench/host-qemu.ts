import { createQemuDriver } from "../host/drivers/qemu/qemu.ts";
import { DEFAULT_QEMU_SETTINGS } from "../host/drivers/qemu/settings.ts";
import { createLog } from "../service/log.ts";
import { CACHE_DIR, openWorld, type TestMachine, type World } from "../test/guest/guest-world.ts";
import { type Benchmark, median, percentile } from "./figure.ts";
import { memoryOf } from "./process-memory.ts";

const ROUNDS = 5;

interface Times {
  readonly createMs: readonly number[];
  readonly wakeMs: readonly number[];
  readonly bootMs: readonly number[];
  readonly sleepMs: readonly number[];
  readonly stopMs: readonly number[];
  /** Memory of this host that a machine takes alone, MiB, while it runs and while it sleeps. */
  readonly runningMib: readonly number[];
  readonly sleepingMib: readonly number[];
}

let measured: Promise<Times> | null = null;

/** Virtual machines of a driver of their own, each made, put to sleep, woken, and booted cold, in turns; once for all figures. */
function times(): Promise<Times> {
  measured ??= withWorld(async (world) => {
    const all = { createMs: [], wakeMs: [], bootMs: [], sleepMs: [], stopMs: [], runningMib: [], sleepingMib: [] } as Record<
      keyof Times,
      number[]
    >;
    for (let round = 0; round < ROUNDS; round += 1) {
      let vm: TestMachine | null = null;
      all.createMs.push(
        await untilExec(world, async () => {
          vm = await world.createVm();
          return vm;
        }),
      );
      const { vmId } = vm ?? fail();
      const memory = () => memoryOf(({ commandLine }) => commandLine.includes(vmId));
      all.runningMib.push(memory());
      all.sleepMs.push(await timed(() => world.driver.pause(vmId)));
      all.sleepingMib.push(memory());
      all.wakeMs.push(await untilExec(world, () => world.driver.start(vmId)));
      all.stopMs.push(await timed(() => world.driver.stop(vmId)));
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

async function timed(act: () => Promise<unknown>): Promise<number> {
  const before = performance.now();
  await act();
  return performance.now() - before;
}

/** From asking the driver until a first command's output is here. */
async function untilExec(world: World, start: () => Promise<{ readonly address: string }>): Promise<number> {
  const before = performance.now();
  const machine = await start();
  const answer = await world.ssh(machine, "echo up");
  if (answer.stdout !== "up\n") throw new Error(`the machine did not answer: ${answer.stderr}`);
  return performance.now() - before;
}

function fail(): never {
  throw new Error("no machine was made");
}

const cold = { against: "cold boot of the same machine" };
/** Of so few rounds the slowest. */
const p99 = (values: readonly number[]) => percentile(values, 0.99);
const MIB_PER_GIB = 1024;

export const hostQemu: readonly Benchmark[] = [
  // A new machine, a copy of the golden one, until its first command.
  { ...cold, id: "host.qemu.create_ms", measure: () => toBoot(({ createMs }) => createMs, median) },
  { ...cold, id: "host.qemu.create_p99_ms", measure: () => toBoot(({ createMs }) => createMs, p99) },
  // A sleeping machine until its first command.
  { ...cold, id: "host.qemu.wake_p50_ms", measure: () => toBoot(({ wakeMs }) => wakeMs, median) },
  { ...cold, id: "host.qemu.wake_p99_ms", measure: () => toBoot(({ wakeMs }) => wakeMs, p99) },
  {
    id: "host.qemu.sleep_ms",
    against: "stop of the same machine",
    measure: async () => {
      const { sleepMs, stopMs } = await times();
      return { value: median(sleepMs), baseline: median(stopMs), unit: "ms" };
    },
  },
  {
    // Memory that a sleeping machine takes; against one that has just been made and runs.
    id: "host.qemu.asleep_mib",
    against: "running machine",
    measure: async () => {
      const { sleepingMib, runningMib } = await times();
      return { value: median(sleepingMib), baseline: median(runningMib), unit: "MiB" };
    },
  },
  {
    // Running machines, as they share the golden one's memory; against machines that share nothing.
    id: "host.qemu.guests_per_gib",
    against: "machines that take the memory that they were given",
    measure: async () => {
      const { runningMib } = await times();
      const { memoryMib } = DEFAULT_QEMU_SETTINGS;
      return { value: MIB_PER_GIB / median(runningMib), baseline: MIB_PER_GIB / memoryMib, unit: "guests" };
    },
  },
];

async function toBoot(pick: (all: Times) => readonly number[], of: (values: readonly number[]) => number) {
  const all = await times();
  return { value: of(pick(all)), baseline: of(all.bootMs), unit: "ms" };
}
