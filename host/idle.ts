import type { Clock } from "../protocol/bytes.ts";
import type { IdlePolicy } from "../protocol/host-api.ts";

export interface IdleLimits {
  /** Bytes through one tunnel between two sweeps that count as use, for a VM that names no number. */
  readonly tunnelBytes: number;
  /** How long a VM stays awake for what woke it and was no use, in milliseconds. */
  readonly glanceMs: number;
}

/** A stream whose bytes are counted. `total` only rises. */
interface Meter {
  readonly total: () => number;
  seen: number;
}

interface Watched {
  policy: IdlePolicy;
  usedAt: number;
  /** Not idle before, though not used. */
  awakeUntil: number;
  /** Operations under way. */
  busy: number;
  readonly meters: Set<Meter>;
}

const NO_POLICY: IdlePolicy = { idleTimeoutSeconds: null, activityThresholdBytes: null };

/**
 * Knows when each VM was last used: an operation, terminal input, or enough bytes through a tunnel. An editor that only keeps
 * its connection alive does not use the VM.
 */
export class IdleWatch {
  readonly #clock: Clock;
  readonly #limits: IdleLimits;
  readonly #vms = new Map<string, Watched>();

  constructor(clock: Clock, limits: IdleLimits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  setPolicy(vmId: string, policy: IdlePolicy): void {
    const vm = this.#of(vmId);
    vm.policy = policy;
    vm.usedAt = this.#clock();
  }

  forget(vmId: string): void {
    this.#vms.delete(vmId);
  }

  /** The VM is used at this moment. */
  note(vmId: string): void {
    this.#of(vmId).usedAt = this.#clock();
  }

  /** The VM was woken by what may be no use of it: it gets the time to answer. */
  glance(vmId: string): void {
    this.#of(vmId).awakeUntil = this.#clock() + this.#limits.glanceMs;
  }

  /** The VM is used until the returned function is called. */
  begin(vmId: string): () => void {
    const vm = this.#of(vmId);
    vm.busy += 1;
    let running = true;
    return () => {
      if (!running) return;
      running = false;
      vm.busy -= 1;
      vm.usedAt = this.#clock();
    };
  }

  /** Counts a tunnel's bytes until the returned function is called. */
  meter(vmId: string, total: () => number): () => void {
    const vm = this.#of(vmId);
    const meter: Meter = { total, seen: total() };
    vm.meters.add(meter);
    vm.usedAt = this.#clock();
    return () => vm.meters.delete(meter);
  }

  /** Reads every meter. Answers the VMs that have been idle for as long as their policy says. */
  sweep(): string[] {
    for (const vm of this.#vms.values()) this.#readMeters(vm);
    return [...this.#vms.keys()].filter((vmId) => this.isIdle(vmId));
  }

  isIdle(vmId: string): boolean {
    const vm = this.#vms.get(vmId);
    if (vm === undefined || vm.busy > 0 || vm.policy.idleTimeoutSeconds === null) return false;
    const now = this.#clock();
    // The clock was set back: what is in its future was just now.
    vm.usedAt = Math.min(vm.usedAt, now);
    vm.awakeUntil = Math.min(vm.awakeUntil, now + this.#limits.glanceMs);
    return now >= vm.awakeUntil && now - vm.usedAt >= vm.policy.idleTimeoutSeconds * 1000;
  }

  #readMeters(vm: Watched): void {
    for (const meter of vm.meters) {
      const total = meter.total();
      if (total - meter.seen >= (vm.policy.activityThresholdBytes ?? this.#limits.tunnelBytes)) vm.usedAt = this.#clock();
      meter.seen = total;
    }
  }

  #of(vmId: string): Watched {
    const known = this.#vms.get(vmId);
    if (known !== undefined) return known;
    const vm: Watched = { policy: NO_POLICY, usedAt: this.#clock(), awakeUntil: 0, busy: 0, meters: new Set() };
    this.#vms.set(vmId, vm);
    return vm;
  }
}
