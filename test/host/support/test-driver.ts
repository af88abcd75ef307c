import { type Driver, DriverError, type DriverState, type Machine, type MachineSpec } from "../../../host/driver.ts";
import type { MachineResources } from "../../../protocol/host-api.ts";
import { LocalGuest } from "./local-guest.ts";

interface TestMachine {
  state: DriverState;
  readonly guest: LocalGuest;
}

/** How often each method was called. */
export type DriverCalls = Record<
  "create" | "start" | "pause" | "stop" | "resize" | "snapshot" | "deleteSnapshot" | "delete" | "close",
  number
>;

let addresses = 0;

/** A loopback address of this test process alone: test files run side by side, each in its own process. */
export function nextAddress(): string {
  addresses += 1;
  return `127.${64 + ((process.pid >> 8) & 63)}.${process.pid & 255}.${addresses}`;
}

/**
 * A driver whose machines are `LocalGuest`s. A paused machine keeps its processes, held still.
 * `failing` makes a method throw, so that what the agent does then can be seen.
 */
export class TestDriver implements Driver {
  readonly name = "test";
  readonly gatewayAddress = "127.0.0.1";
  readonly defaultResources: MachineResources = { cpu: 2, memory: 1024 };
  readonly calls: DriverCalls = {
    create: 0,
    start: 0,
    pause: 0,
    stop: 0,
    resize: 0,
    snapshot: 0,
    deleteSnapshot: 0,
    delete: 0,
    close: 0,
  };
  /** What each machine was asked to be made with, and every size that it was given since. */
  readonly specs = new Map<string, MachineSpec>();
  readonly resized: { readonly vmId: string; readonly resources: MachineResources }[] = [];
  readonly snapshots = new Set<string>();
  readonly failing = new Set<keyof DriverCalls>();
  /** What it then throws. */
  failure: Error | null = null;
  readonly #machines = new Map<string, TestMachine>();
  readonly #sshPort: number;
  #metadataPort = 0;

  constructor(sshPort: number) {
    this.#sshPort = sshPort;
  }

  async open(): Promise<void> {}

  async routeMetadata(port: number): Promise<void> {
    this.#metadataPort = port;
  }

  vmAtAddress(address: string): string | null {
    for (const [vmId, { guest }] of this.#machines) if (guest.address === address) return vmId;
    return null;
  }

  refuses({ storage }: MachineResources): string | null {
    return storage === undefined ? null : "storage: the test refuses it.";
  }

  async list(): Promise<readonly Machine[]> {
    return [...this.#machines.keys()].map((vmId) => this.#describe(vmId));
  }

  async inspect(vmId: string): Promise<Machine | null> {
    return this.#machines.has(vmId) ? this.#describe(vmId) : null;
  }

  async create(spec: MachineSpec): Promise<Machine> {
    this.#count("create");
    this.specs.set(spec.vmId, spec);
    const address = nextAddress();
    const metadata = () => ({ address: this.gatewayAddress, port: this.#metadataPort });
    const guest = new LocalGuest(spec, address, this.#sshPort, metadata);
    this.#machines.set(spec.vmId, { state: "running", guest });
    guest.start();
    return this.#describe(spec.vmId);
  }

  async start(vmId: string): Promise<Machine> {
    this.#count("start");
    const machine = this.#find(vmId);
    machine.guest.start();
    machine.guest.freeze(false);
    machine.state = "running";
    return this.#describe(vmId);
  }

  async pause(vmId: string): Promise<Machine> {
    this.#count("pause");
    const machine = this.#find(vmId);
    machine.guest.freeze(true);
    machine.state = "paused";
    return this.#describe(vmId);
  }

  async stop(vmId: string): Promise<Machine> {
    this.#count("stop");
    await this.die(vmId);
    return this.#describe(vmId);
  }

  async resize(vmId: string, resources: MachineResources): Promise<void> {
    this.#count("resize");
    this.#find(vmId);
    this.resized.push({ vmId, resources });
  }

  async snapshot(vmId: string, snapshotId: string): Promise<void> {
    this.#count("snapshot");
    this.#find(vmId);
    this.snapshots.add(snapshotId);
  }

  async deleteSnapshot(snapshotId: string): Promise<void> {
    this.#count("deleteSnapshot");
    this.snapshots.delete(snapshotId);
  }

  async delete(vmId: string): Promise<void> {
    this.#count("delete");
    await this.#machines.get(vmId)?.guest.delete();
    this.#machines.delete(vmId);
  }

  async close(): Promise<void> {
    this.#count("close");
    for (const vmId of this.#machines.keys()) await this.die(vmId);
  }

  /** The machine ends without anybody having asked. */
  async die(vmId: string): Promise<void> {
    const machine = this.#find(vmId);
    await machine.guest.stop();
    machine.state = "stopped";
  }

  /** The sshd of a machine ends, and the machine runs on. */
  async killSshd(vmId: string): Promise<void> {
    await this.#find(vmId).guest.stop();
  }

  /** Where the guest of a VM is. */
  addressOf(vmId: string): string {
    return this.#find(vmId).guest.address;
  }

  /** Removes what the test left. */
  async destroy(): Promise<void> {
    for (const { guest } of this.#machines.values()) await guest.delete();
  }

  #count(method: keyof DriverCalls): void {
    this.calls[method] += 1;
    if (this.failing.has(method)) throw this.failure ?? new DriverError("engine", `the test makes ${method} fail`);
  }

  #find(vmId: string): TestMachine {
    const machine = this.#machines.get(vmId);
    if (machine === undefined) throw new DriverError("no-such-machine", "no such machine");
    return machine;
  }

  #describe(vmId: string): Machine {
    const { state, guest } = this.#find(vmId);
    return { vmId, state, address: guest.address };
  }
}
