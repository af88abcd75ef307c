import type { Metrics } from "./metrics.ts";

/** Declares what every process of ours tells about itself, under the names that Prometheus gives them. */
export function observeProcess(registry: Metrics): void {
  registry.observe("process_resident_memory_bytes", "Resident memory.", () => process.memoryUsage.rss());
  const cpuSeconds = () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  };
  registry.observe("process_cpu_seconds_total", "CPU time used, user and system.", cpuSeconds, "counter");
}
