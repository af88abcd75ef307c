/** What a machine is doing, as its driver sees it. `paused` keeps memory, `stopped` keeps only the disk. */
export type DriverState = "running" | "paused" | "stopped";

export interface Machine {
  readonly vmId: string;
  readonly state: DriverState;
  /** Address at which the host reaches the guest's sshd on port 22; assigned once, kept for the machine's life. */
  readonly address: string;
}

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
  list(): Promise<readonly Machine[]>;
  inspect(vmId: string): Promise<Machine | null>;
  /** Makes the machine and starts it. Answers when it runs, which may be a moment before its sshd listens. */
  create(spec: MachineSpec): Promise<Machine>;
  /** Runs a stopped machine, or continues a paused one. Throws `DriverError` `no-such-machine` for an unknown id. */
  start(vmId: string): Promise<Machine>;
  pause(vmId: string): Promise<Machine>;
  stop(vmId: string): Promise<Machine>;
  /** Deletes machine and disk. Nothing to delete is success. */
  delete(vmId: string): Promise<void>;
  /** Stops every machine and takes away processes, mounts, network and firewall rules. Disks stay. */
  close(): Promise<void>;
}

/** A driver could not do what it was asked. `message` is for the operator's log and names what failed. */
export class DriverError extends Error {
  readonly code: "no-such-machine" | "engine" | "network" | "image";

  constructor(code: DriverError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "DriverError";
    this.code = code;
  }
}
