import type { MachineResources } from "../protocol/host-api.ts";

/** What a machine is doing, as its driver sees it. `paused` keeps memory, `stopped` keeps only the disk. */
export type DriverState = "running" | "paused" | "stopped";

export interface Machine {
  readonly vmId: string;
  readonly state: DriverState;
  /** Address at which the host reaches the guest's sshd on port 22; assigned once, kept for the machine's life. */
  readonly address: string;
  /** Port of its sshd there; absent: 22. */
  readonly port?: number;
}

/** What a driver may be unable to do to any of its machines. */
export type Refusable = "pause" | "stop" | "snapshot";

/** A file that is in the guest before it first boots, owned by root. */
export interface SeedFile {
  readonly path: string;
  /** Permission bits, for example 0o600. */
  readonly mode: number;
  readonly content: string;
}

export interface MachineSpec {
  readonly vmId: string;
  readonly files: readonly SeedFile[];
  /** Sizes; the driver's own where absent. */
  readonly resources?: MachineResources;
  /** False: the guest reaches metadata and nothing else. True when absent. */
  readonly internet?: boolean;
  /** The snapshot whose disk the machine begins with; the base image when absent. */
  readonly snapshotId?: string;
}

/** Tells a person what a long step is doing, in a short sentence. */
export type Progress = (message: string) => void;

/**
 * How a host makes machines. A driver creates, starts, pauses, stops, deletes and gives an address; everything done
 * inside a guest goes over SSH and is the same for every driver. Methods throw only for broken I/O (`DriverError`);
 * `start`, `pause`, `stop` and `delete` are idempotent, and all are safe to call again after a crash in the middle.
 */
export interface Driver {
  readonly name: string;
  /** Makes ready: engine, image, network. Slow the first time (the image is built), so it reports progress. */
  open(progress: Progress): Promise<void>;
  /** The address on the guests' network at which the host agent serves metadata. Valid after `open`. */
  readonly gatewayAddress: string;
  /** Sends what guests ask of 169.254.169.254:80 to `gatewayAddress:port`. */
  routeMetadata(port: number): Promise<void>;
  /** The VM that owns a guest address, or null: how metadata knows who asks. Guests cannot forge their source address. */
  vmAtAddress(address: string): string | null;
  /** What a machine has for which no sizes were chosen; a member that the driver does not limit is absent. */
  readonly defaultResources: MachineResources;
  /**
   * Only where machines are there already and the driver makes none: what it was told of one, null when it was not told of
   * it. `create` then takes such a machine up as it is, and `delete` lets it go.
   */
  existing?(vmId: string): { readonly hostKey: string } | null;
  /** Why the driver does this to none of its machines, in words for their owner. Absent: it does everything. */
  refusesTo?(action: Refusable): string;
  /** Why the driver cannot give these sizes, naming the member; null when it can. Asked before anything is made. */
  refuses(resources: MachineResources): string | null;
  /** Other sizes wait for the machine's next start from its disk. Absent: they hold at once. */
  readonly resizesAtNextStart?: boolean;
  list(): Promise<readonly Machine[]>;
  inspect(vmId: string): Promise<Machine | null>;
  /**
   * Makes the machine and starts it. Answers when it runs, which may be a moment before its sshd listens. Throws
   * `DriverError` `no-such-snapshot` for an unknown one.
   */
  create(spec: MachineSpec): Promise<Machine>;
  /** Runs a stopped machine, or continues a paused one. Throws `DriverError` `no-such-machine` for an unknown id. */
  start(vmId: string): Promise<Machine>;
  pause(vmId: string): Promise<Machine>;
  stop(vmId: string): Promise<Machine>;
  /**
   * Gives the machine other sizes, at once if it runs (but where `resizesAtNextStart`) and from now on at every start; absent
   * ones stay.
   */
  resize(vmId: string, resources: MachineResources): Promise<void>;
  /**
   * Captures the machine's disk as it is; the machine is held still meanwhile and goes on as it was. A snapshot lives apart
   * from the machine. Taking one that is there changes nothing.
   */
  snapshot(vmId: string, snapshotId: string): Promise<void>;
  /** Machines made from it stay. Nothing to delete is success. */
  deleteSnapshot(snapshotId: string): Promise<void>;
  /** Deletes machine and disk. Nothing to delete is success. */
  delete(vmId: string): Promise<void>;
  /** Stops every machine, or puts it to sleep where that leaves no process, and takes away processes, mounts, network and firewall rules. Disks stay. */
  close(): Promise<void>;
}

export type DriverErrorCode =
  | "no-such-machine"
  | "no-such-snapshot"
  | "engine"
  | "network"
  | "image"
  /** Not for this driver's machines; asked all the same. */
  | "unsupported"
  /** The operator's description of machines is wrong. */
  | "config"
  /** A machine that is not ours to start does not answer, shows another key, refuses ours, or could not be woken. */
  | "unreachable"
  | "host-key"
  | "login"
  | "wake";

/** A driver could not do what it was asked. `message` is for the operator's log and names what failed. */
export class DriverError extends Error {
  readonly code: DriverErrorCode;

  constructor(code: DriverErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "DriverError";
    this.code = code;
  }
}
