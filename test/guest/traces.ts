import { readdir, readFile, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { agentTag } from "../../host/network/addressing.ts";
import { run } from "./guest-world.ts";

/** What one host agent has in the kernel and under /run, by kind. Lines, so that a failed comparison reads well. */
export interface Traces {
  readonly processes: readonly string[];
  readonly mounts: readonly string[];
  readonly links: readonly string[];
  readonly tables: readonly string[];
  readonly cgroups: readonly string[];
  readonly runFiles: readonly string[];
  /** Containers that the runtime, shared by all of the machine, remembers. */
  readonly runtime: readonly string[];
}

export const NO_TRACES: Traces = { processes: [], mounts: [], links: [], tables: [], cgroups: [], runFiles: [], runtime: [] };

export async function tracesOf(stateDir: string): Promise<Traces> {
  const real = join(await realpath(dirname(stateDir)), "state");
  const tag = agentTag(real);
  const mine = (line: string) => line.includes(tag) || line.includes(`${real}/`);
  const linesOf = (text: string) => text.split("\n").filter(mine);
  const cgroupRoots = (await readdir("/sys/fs/cgroup", { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const cgroups = await Promise.all(
    cgroupRoots.map(async (entry) => (await readdir(join("/sys/fs/cgroup", entry.name))).map((name) => `${entry.name}/${name}`)),
  );
  return {
    processes: await processLines(mine),
    mounts: linesOf(await readFile("/proc/self/mountinfo", "utf8")),
    links: linesOf((await run("ip", ["-oneline", "link"])).stdout),
    tables: linesOf((await run("nft", ["list", "tables"])).stdout),
    cgroups: [...cgroupRoots.map((entry) => entry.name), ...cgroups.flat()].filter(mine),
    runtime: (await Promise.all((await readdir("/run/runc").catch(() => [])).map(runtimeState))).filter(mine),
    runFiles: (await readdir("/run/postern").catch(() => [])).filter(mine),
  };
}

async function runtimeState(id: string): Promise<string> {
  return readFile(`/run/runc/${id}/state.json`, "utf8").catch(() => "");
}

async function processLines(mine: (line: string) => boolean): Promise<readonly string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  const lines = await Promise.all(
    pids.map(async (pid) => (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).replaceAll("\0", " ")),
  );
  return lines.filter((line) => /conmon|podman|runc|tini|qemu/.test(line) && mine(line));
}
