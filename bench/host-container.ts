import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { ApiClient } from "../bin/operator.ts";
import { podmanHome } from "../host/drivers/podman-home.ts";
import type { SystemAccess } from "../test/system/running-system.ts";
import { type BenchVm, withVm } from "./account.ts";
import { type Benchmark, median } from "./figure.ts";

const ROUNDS = 9;
const CALLERS = 500;
const CALLER_ROUNDS = 3;
/** Without these the engine asks for the kernel's highest, which it may not have. */
const LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

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

/** A VM until its first command's answer; against a plain container of the same image until the same. */
export const hostContainerCreate: Benchmark = {
  id: "host.container.create_ms",
  against: "plain `podman run` and `podman exec`",
  measure: (system) =>
    withVm(system, async (vm) => {
      const image = await podman(system, "inspect", "--format", "{{.Image}}", vm.vmId);
      const ours: number[] = [];
      const plain: number[] = [];
      for (let round = 0; round < ROUNDS; round += 1) {
        let made: BenchVm | null = null;
        ours.push(
          await timed(async () => {
            const { id: vmId } = await vm.owner.request<{ id: string }>("POST", "/v1/vms", {});
            made = { ...vm, vmId };
            await exec(made);
          }),
        );
        const { vmId } = made ?? vm;
        await vm.owner.request("DELETE", `/v1/vms/${vmId}`);
        const name = `plain-${round}`;
        plain.push(
          await timed(async () => {
            await podman(
              system,
              "run",
              "--detach",
              "--name",
              name,
              "--network",
              "none",
              ...LIMITS,
              "--entrypoint",
              "sleep",
              image,
              "infinity",
            );
            await podman(system, "exec", name, "true");
          }),
        );
        await podman(system, "rm", "--force", "--time", "0", name);
      }
      return { value: median(ours), baseline: median(plain), unit: "ms" };
    }),
};

/** A sleeping VM until its first command's answer; against `podman unpause` and `podman exec` of the same container. */
export const hostContainerWake: Benchmark = {
  id: "host.container.wake_p50_ms",
  against: "plain `podman unpause` and `podman exec`",
  measure: (system) =>
    withVm(system, async (vm) => {
      const ours: number[] = [];
      const plain: number[] = [];
      for (let round = 0; round < ROUNDS; round += 1) {
        await vm.owner.request("POST", `/v1/vms/${vm.vmId}/suspend`);
        ours.push(await timed(() => exec(vm)));
        await podman(system, "pause", vm.vmId);
        plain.push(
          await timed(async () => {
            await podman(system, "unpause", vm.vmId);
            await podman(system, "exec", vm.vmId, "true");
          }),
        );
      }
      return { value: median(ours), baseline: median(plain), unit: "ms" };
    }),
};

/** What 500 callers who start a sleeping VM at once wait longer, the last of them, than a single one does; against that one. */
export const hostWake500: Benchmark = {
  id: "host.wake_500_overhead_ms",
  against: "a single caller's wake",
  measure: (system) =>
    withVm(system, async (vm) => {
      const caller = new ApiClient(system.apiUrl, vm.token);
      const start = () => caller.request("POST", `/v1/vms/${vm.vmId}/start`, {});
      const single: number[] = [];
      const many: number[] = [];
      for (let round = 0; round < CALLER_ROUNDS; round += 1) {
        await vm.owner.request("POST", `/v1/vms/${vm.vmId}/suspend`);
        single.push(await timed(start));
        await vm.owner.request("POST", `/v1/vms/${vm.vmId}/suspend`);
        many.push(await timed(() => Promise.all(Array.from({ length: CALLERS }, start))));
      }
      return { value: median(many) - median(single), baseline: median(single), unit: "ms" };
    }),
};
