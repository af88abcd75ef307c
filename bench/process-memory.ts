import { readdirSync, readFileSync } from "node:fs";

/** A process as it is looked for: its command line and its cgroups, as text. */
type Wanted = (process: { readonly commandLine: string; readonly cgroups: string }) => boolean;

/** Proportional memory (`Pss` of proc_pid_smaps(5)) of every process that is wanted, MiB. */
export function memoryOf(wanted: Wanted): number {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const kib = pids.map((pid) => {
    try {
      const of = (file: string) => readFileSync(`/proc/${pid}/${file}`, "utf8");
      if (!wanted({ commandLine: of("cmdline"), cgroups: of("cgroup") })) return 0;
      return Number(/^Pss:\s+(\d+)/m.exec(of("smaps_rollup"))?.[1] ?? 0);
    } catch {
      // It ended meanwhile.
      return 0;
    }
  });
  return kib.reduce((sum, one) => sum + one, 0) / 1024;
}
