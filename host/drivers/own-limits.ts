import { readFile } from "node:fs/promises";
import { runCommand } from "../network/run-command.ts";

/** Limits of this process, which a container may not exceed: it sets its own when it is root of its own namespace only. */
export interface OwnLimits {
  readonly openFiles: number;
  readonly processes: number;
}

/**
 * Lets this process, and with it the engine and every machine, have so many open files and as many processes as the kernel has pids,
 * where the kernel lets it raise its limits (CAP_SYS_RESOURCE). Answers what it has then. podman lowers its own limit of
 * processes to that number of pids.
 */
export async function raiseOwnLimits(openFiles: number): Promise<OwnLimits> {
  const pids = Number(await readFile("/proc/sys/kernel/pid_max", "utf8"));
  const files = Math.min(openFiles, Number(await readFile("/proc/sys/fs/nr_open", "utf8")));
  const before = await hardLimits();
  const raise = (name: string, wanted: number, has: number) => (has >= wanted ? [] : [`--${name}=:${wanted}`]);
  const raises = [...raise("nofile", files, before.openFiles), ...raise("nproc", pids, before.processes)];
  // Refused to a process without the capability; then what it has is what machines have.
  if (raises.length > 0) {
    await runCommand("engine", "prlimit", ["--pid", String(process.pid), ...raises]).catch(() => undefined);
  }
  const { openFiles: most, processes } = await hardLimits();
  return { openFiles: most, processes: Math.min(processes, pids) };
}

async function hardLimits(): Promise<OwnLimits> {
  const limits = await readFile("/proc/self/limits", "utf8");
  const hard = (name: string) => {
    const value = new RegExp(`^${name}\\s+\\S+\\s+(\\S+)`, "m").exec(limits)?.[1] ?? "unlimited";
    return value === "unlimited" ? Number.MAX_SAFE_INTEGER : Number(value);
  };
  return { openFiles: hard("Max open files"), processes: hard("Max processes") };
}
