import { ApiClient } from "../bin/operator.ts";
import type { SystemAccess } from "../test/system/running-system.ts";
import { withVm } from "./account.ts";
import { type Benchmark, median } from "./figure.ts";

const CALLERS = 500;
const ROUNDS = 3;

interface Times {
  /** One caller, who starts a sleeping VM. */
  readonly single: readonly number[];
  /** The last of many callers at once, milliseconds, of a sleeping VM and of one that runs. */
  readonly asleep: readonly number[];
  readonly running: readonly number[];
}

let measured: Promise<Times> | null = null;

/** The three in turns; once for all figures. */
function times(system: SystemAccess): Promise<Times> {
  measured ??= withVm(system, async (vm) => {
    const caller = new ApiClient(system.apiUrl, vm.token);
    const start = () => caller.request("POST", `/v1/vms/${vm.vmId}/start`, {});
    const all = () => Promise.all(Array.from({ length: CALLERS }, start));
    const sleep = () => vm.owner.request("POST", `/v1/vms/${vm.vmId}/suspend`);
    const found = { single: [] as number[], asleep: [] as number[], running: [] as number[] };
    for (let round = 0; round < ROUNDS; round += 1) {
      await sleep();
      found.single.push(await timed(start));
      found.running.push(await timed(all));
      await sleep();
      found.asleep.push(await timed(all));
    }
    return found;
  });
  return measured;
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const before = performance.now();
  await act();
  return performance.now() - before;
}

/** What 500 callers who start a sleeping VM at once wait longer, the last of them, than a single one does; against that one. */
export const hostWake500: Benchmark = {
  id: "host.wake_500_overhead_ms",
  against: "a single caller's wake",
  measure: async (system) => {
    const { single, asleep } = await times(system);
    return { value: median(asleep) - median(single), baseline: median(single), unit: "ms" };
  },
};

/** How long 500 callers who start a sleeping VM at once wait, the last of them; against the same of a VM that runs. */
export const hostWake500VsRunning: Benchmark = {
  id: "host.wake_500_vs_running_ms",
  against: "the same 500 calls to a VM that runs",
  measure: async (system) => {
    const { asleep, running } = await times(system);
    return { value: median(asleep), baseline: median(running), unit: "ms" };
  },
};
