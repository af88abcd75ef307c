import { Metrics } from "../service/metrics.ts";
import { observeProcess } from "../service/process-metrics.ts";

/** What a forwarder counts. Labels are fixed words: outcomes, reasons, directions. */
export class ForwarderMetrics {
  readonly registry = new Metrics();
  /** A connection ended before it became a login: `reason` is one of `gate`, `proxy-header`, and the openings' refusals. */
  readonly turnedAway = this.registry.counter("postern_ssh_turned_away_total", "Connections that never came to a login.");
  /** `outcome`: `ok` or a failure kind; `mode`: `ssh` or `end-to-end`. */
  readonly logins = this.registry.counter("postern_ssh_logins_total", "Login decisions.");
  /** `outcome`: `ok` or a failure kind. */
  readonly tunnels = this.registry.counter("postern_ssh_tunnels_total", "Tunnels to hosts that were asked for.");
  readonly rekeys = this.registry.counter("postern_ssh_rekeys_total", "Key exchanges that the forwarder began.");

  /** Bytes of payload copied to VMs and to clients. Plain numbers: they change with every packet. */
  bytesUp = 0;
  bytesDown = 0;

  constructor(live: { readonly connections: () => number; readonly sessions: () => number }) {
    this.registry.observe("postern_ssh_connections", "Connections held now, logged in or not.", live.connections);
    this.registry.observe("postern_ssh_sessions", "Logged-in connections held now.", live.sessions);
    this.registry.observe("postern_ssh_bytes_up_total", "Bytes copied to VMs.", () => this.bytesUp, "counter");
    this.registry.observe("postern_ssh_bytes_down_total", "Bytes copied to clients.", () => this.bytesDown, "counter");
    observeProcess(this.registry);
  }
}
