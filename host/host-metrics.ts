import type { MachineState } from "../protocol/host-api.ts";
import { Metrics } from "../service/metrics.ts";
import { observeProcess } from "../service/process-metrics.ts";

/** What can be asked at any moment. */
export interface HostNow {
  /** The state of each VM. */
  readonly states: () => readonly MachineState[];
  /** Requests and WebSockets to VMs' names that are under way. */
  readonly visits: () => number;
  /** Whether the feed has been heard lately. */
  readonly isFeedFresh: () => boolean;
  readonly isDraining: () => boolean;
  readonly isDiskFull: () => boolean;
}

/** What a host agent counts. Labels are fixed words. */
export class HostMetrics {
  readonly registry = new Metrics();
  /** `status`: the HTTP status of the answer. */
  readonly requests = this.registry.counter("postern_host_requests_total", "Operations that were asked for over HTTP.");
  /** `state`: what a machine became. `running` counts wakes and creations. */
  readonly states = this.registry.counter("postern_host_machine_states_total", "Changes of machines' states.");

  constructor({ states, visits, isFeedFresh, isDraining, isDiskFull }: HostNow) {
    const count = (...wanted: MachineState[]) => states().filter((state) => wanted.includes(state)).length;
    this.registry.observe("postern_host_vms", "VMs on this host.", () => states().length);
    this.registry.observe("postern_host_vms_running", "VMs that run.", () => count("running", "starting"));
    this.registry.observe("postern_host_vms_asleep", "VMs that sleep or are stopped.", () => count("suspended", "stopped"));
    this.registry.observe("postern_host_visits", "HTTP requests and WebSockets to VMs' names under way.", visits);
    this.registry.observe("postern_host_feed_fresh", "1 while the region's feed is heard.", () => Number(isFeedFresh()));
    this.registry.observe("postern_host_draining", "1 while the host takes no new VMs and wakes none.", () => Number(isDraining()));
    this.registry.observe(
      "postern_host_disk_full",
      "1 while less of the disk is free than the host keeps for itself, so that it makes, wakes and captures no VM.",
      () => Number(isDiskFull()),
    );
    observeProcess(this.registry);
  }
}
