import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { podmanHome } from "../host/drivers/podman-home.ts";
import type { SystemAccess } from "../test/system/running-system.ts";
import { type BenchVm, withVm } from "./account.ts";
import { type Benchmark, median, percentile } from "./figure.ts";
import { memoryOf } from "./process-memory.ts";

/** As many as a 99th percentile takes. */
const ROUNDS = 100;
const MIB_PER_GIB = 1024;
/** Without these the engine asks for the kernel's highest, which it may not have. */
const LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

/** Of each round: a VM of ours, and a plain container of the same image beside it. Milliseconds. */
interface Pair {
  readonly ours: number[];
  readonly plain: number[];
}

interface Lifecycle {
  readonly wake: Pair;
  readonly sleep: Pair;
  /** Memory of the guest and its monitor, MiB. */
  readonly runningMib: number[];
  readonly sleepingMib: number[];
}

/** Runs podman where the system's host keeps its containers. */
async function podman(system: SystemAccess, ...args: string[]): Promise<string> {
  const { env } = await podmanHome(join(system.home, "host"));
  return (await promisify(execFile)("podman", args, { env })).stdout.trim();
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const before = performance.now();
  await act();
  return performance.now() - before;
}

function exec({ owner, vmId }: BenchVm): Promise<unknown> {
  return owner.request("POST", `/v1/vms/${vmId}/exec-await`, { command: "true", terminal: null, timeoutMs: 30_000 });
}

let created: Promise<Pair> | null = null;

/** Each made until its first command's answer; once for all figures. */
function creations(system: SystemAccess): Promise<Pair> {
  created ??= withVm(system, async (vm) => {
    const image = await podman(system, "inspect", "--format", "{{.Image}}", vm.vmId);
    const pair: Pair = { ours: [], plain: [] };
    for (let round = 0; round < ROUNDS; round += 1) {
      let made: BenchVm | null = null;
      pair.ours.push(
        await timed(async () => {
          const { id: vmId } = await vm.owner.request<{ id: string }>("POST", "/v1/vms", {});
          made = { ...vm, vmId };
          await exec(made);
        }),
      );
      const { vmId } = made ?? vm;
      await vm.owner.request("DELETE", `/v1/vms/${vmId}`);
      const name = `plain-${round}`;
      const run = ["run", "--detach", "--name", name, "--network", "none", ...LIMITS, "--entrypoint", "sleep", image, "infinity"];
      pair.plain.push(
        await timed(async () => {
          await podman(system, ...run);
          await podman(system, "exec", name, "true");
        }),
      );
      await podman(system, "rm", "--force", "--time", "0", name);
    }
    return pair;
  });
  return created;
}

let lived: Promise<Lifecycle> | null = null;

/** One VM put to sleep and woken by us, then by plain podman, in turns; once for all figures. */
function lifecycle(system: SystemAccess): Promise<Lifecycle> {
  lived ??= withVm(system, async (vm) => {
    const id = await podman(system, "inspect", "--format", "{{.Id}}", vm.vmId);
    const memory = () => memoryOf(({ cgroups, commandLine }) => cgroups.includes(id) || commandLine.includes(id));
    const found: Lifecycle = {
      wake: { ours: [], plain: [] },
      sleep: { ours: [], plain: [] },
      runningMib: [],
      sleepingMib: [],
    };
    await exec(vm);
    for (let round = 0; round < ROUNDS; round += 1) {
      found.runningMib.push(memory());
      found.sleep.ours.push(await timed(() => vm.owner.request("POST", `/v1/vms/${vm.vmId}/suspend`)));
      found.sleepingMib.push(memory());
      found.wake.ours.push(await timed(() => exec(vm)));
      found.sleep.plain.push(await timed(() => podman(system, "pause", vm.vmId)));
      found.wake.plain.push(
        await timed(async () => {
          await podman(system, "unpause", vm.vmId);
          await podman(system, "exec", vm.vmId, "true");
        }),
      );
    }
    return found;
  });
  return lived;
}

const p99 = (values: readonly number[]) => percentile(values, 0.99);
const inMs = ({ ours, plain }: Pair, of: (values: readonly number[]) => number) => ({
  value: of(ours),
  baseline: of(plain),
  unit: "ms",
});

/** A VM until its first command's answer; against a plain container of the same image until the same. */
const create = { against: "plain `podman run` and `podman exec`" };
/** A sleeping VM until its first command's answer; against `podman unpause` and `podman exec` of the same container. */
const wake = { against: "plain `podman unpause` and `podman exec`" };

export const hostContainer: readonly Benchmark[] = [
  { ...create, id: "host.container.create_ms", measure: async (system) => inMs(await creations(system), median) },
  { ...create, id: "host.container.create_p99_ms", measure: async (system) => inMs(await creations(system), p99) },
  { ...wake, id: "host.container.wake_p50_ms", measure: async (system) => inMs((await lifecycle(system)).wake, median) },
  { ...wake, id: "host.container.wake_p99_ms", measure: async (system) => inMs((await lifecycle(system)).wake, p99) },
  {
    id: "host.container.sleep_ms",
    against: "plain `podman pause`",
    measure: async (system) => inMs((await lifecycle(system)).sleep, median),
  },
  {
    id: "host.container.asleep_mib",
    against: "the same VM awake",
    measure: async (system) => {
      const { sleepingMib, runningMib } = await lifecycle(system);
      return { value: median(sleepingMib), baseline: median(runningMib), unit: "MiB" };
    },
  },
  {
    id: "host.container.guests_per_gib",
    against: "guests awake",
    measure: async (system) => {
      const { sleepingMib, runningMib } = await lifecycle(system);
      return { value: MIB_PER_GIB / median(sleepingMib), baseline: MIB_PER_GIB / median(runningMib), unit: "guests" };
    },
  },
];
