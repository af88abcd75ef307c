import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { RandomBytes } from "../../../protocol/bytes.ts";
import type { MachineResources } from "../../../protocol/host-api.ts";
import { writeFileAtomically } from "../../../service/atomic-file.ts";
import type { Log } from "../../../service/log.ts";
import { generateSshKeyPair, type SshKeyPair } from "../../../service/ssh-keys.ts";
import { type Driver, DriverError, type DriverState, type Machine, type MachineSpec, type Refusable } from "../../driver.ts";
import { SingleFlight } from "../../wake.ts";
import { readStaticMachines, type StaticMachine } from "./config.ts";
import { type Control, type ControlLimits, openControl } from "./control.ts";
import { runWakeCommand } from "./wake-command.ts";

export interface StaticSettings extends ControlLimits {
  /** Longest run of a machine's wake command, milliseconds. */
  readonly wakeCommandMs: number;
  /** How long after its wake command a machine may take to answer, milliseconds. */
  readonly wakeMs: number;
  /** Between two tries to reach a machine that wakes, milliseconds. */
  readonly wakePollMs: number;
}

export interface StaticDriverOptions {
  /** Where the agent's own key is kept. */
  readonly stateDir: string;
  /** The operator's file that names the machines. */
  readonly configFile: string;
  readonly settings: StaticSettings;
  readonly randomBytes: RandomBytes;
  readonly log: Log;
}

const REFUSALS: Readonly<Record<Refusable, string>> = {
  pause: "This VM is an existing machine, which Postern does not put to sleep.",
  stop: "This VM is an existing machine, which Postern does not stop.",
  snapshot: "This VM is an existing machine; no snapshot of it can be taken.",
};

/**
 * Machines that are there already, each with an sshd and named in the operator's file. Nothing is made or deleted: `create`
 * takes a machine up and `delete` lets it go. A machine runs, as far as the host can say, while the agent is connected to it
 * as root; that connection is also how the machine learns which keys to admit.
 */
export function createStaticDriver(options: StaticDriverOptions): Driver {
  return new StaticDriver(options);
}

/** Loopback addresses by which machines are told apart at the metadata server: they ask through their connections. */
const loopbackOf = (index: number) => `127.83.${index >> 8}.${index & 255}`;

interface Known {
  readonly machine: StaticMachine;
  readonly loopback: string;
  readonly connecting: SingleFlight<void>;
  control: Control | null;
}

class StaticDriver implements Driver {
  readonly name = "static";
  readonly gatewayAddress = "127.0.0.1";
  readonly defaultResources: MachineResources = {};
  readonly #options: StaticDriverOptions;
  readonly #known = new Map<string, Known>();
  #pair: SshKeyPair | null = null;
  #metadataPort = 0;
  #closed = false;

  constructor(options: StaticDriverOptions) {
    this.#options = options;
  }

  async open(): Promise<void> {
    const { configFile, stateDir, randomBytes, log } = this.#options;
    const machines = readStaticMachines(configFile);
    this.#pair = keepKey(stateDir, randomBytes);
    this.#known.clear();
    this.#closed = false;
    machines.forEach((machine, index) => {
      const known = { machine, loopback: loopbackOf(index + 1), connecting: new SingleFlight<void>(), control: null };
      this.#known.set(machine.vmId, known);
    });
    log.info("machines of this host must admit this key as root", { publicKey: this.#pair.publicKey, machines: machines.length });
  }

  async routeMetadata(port: number): Promise<void> {
    this.#metadataPort = port;
  }

  vmAtAddress(address: string): string | null {
    for (const [vmId, { loopback, control }] of this.#known) if (loopback === address && control !== null) return vmId;
    return null;
  }

  existing(vmId: string): { readonly hostKey: string } | null {
    const known = this.#known.get(vmId);
    return known === undefined ? null : { hostKey: known.machine.hostKey };
  }

  refusesTo(action: Refusable): string {
    return REFUSALS[action];
  }

  refuses(resources: MachineResources): string | null {
    const member = Object.keys(resources)[0];
    return member === undefined ? null : `${member}: the sizes of an existing machine cannot be chosen.`;
  }

  async list(): Promise<readonly Machine[]> {
    return [...this.#known.values()].map(describe);
  }

  async inspect(vmId: string): Promise<Machine | null> {
    const known = this.#known.get(vmId);
    return known === undefined ? null : describe(known);
  }

  async create({ vmId }: MachineSpec): Promise<Machine> {
    return this.start(vmId);
  }

  async start(vmId: string): Promise<Machine> {
    const known = this.#find(vmId);
    await known.connecting.run(() => this.#bringUp(known));
    return describe(known);
  }

  async pause(vmId: string): Promise<Machine> {
    return this.#refuse(vmId, "pause");
  }

  async stop(vmId: string): Promise<Machine> {
    return this.#refuse(vmId, "stop");
  }

  async resize(vmId: string): Promise<void> {
    this.#find(vmId);
    throw new DriverError("unsupported", "the sizes of an existing machine cannot be chosen");
  }

  async snapshot(vmId: string): Promise<void> {
    this.#refuse(vmId, "snapshot");
  }

  async deleteSnapshot(): Promise<void> {}

  async delete(vmId: string): Promise<void> {
    const known = this.#known.get(vmId);
    if (known !== undefined) letGo(known);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const known of this.#known.values()) letGo(known);
  }

  async #bringUp(known: Known): Promise<void> {
    if (known.control !== null) return;
    const { wake } = known.machine;
    try {
      await this.#connect(known);
    } catch (error) {
      if (wake === undefined || !isUnreachable(error)) throw error;
      await runWakeCommand(wake, this.#options.settings.wakeCommandMs);
      await this.#connectUntil(known, performance.now() + this.#options.settings.wakeMs);
    }
  }

  async #connectUntil(known: Known, deadline: number): Promise<void> {
    for (;;) {
      try {
        await this.#connect(known);
        return;
      } catch (error) {
        if (!isUnreachable(error) || performance.now() > deadline || this.#closed) throw error;
        await delay(this.#options.settings.wakePollMs);
      }
    }
  }

  async #connect(known: Known): Promise<void> {
    if (this.#pair === null || this.#closed) throw new DriverError("engine", "the static driver is not open");
    const way = { host: this.gatewayAddress, port: this.#metadataPort, localAddress: known.loopback };
    const control = await openControl(known.machine, this.#pair, way, this.#options.settings);
    known.control = control;
    void control.ended.then(() => {
      if (known.control !== control) return;
      known.control = null;
      void known.connecting.run(() => this.#comeBack(known));
    });
  }

  /** The connection broke while sessions of others may go on: without it no new login is admitted. */
  async #comeBack(known: Known): Promise<void> {
    const vm = known.machine.vmId;
    try {
      await this.#connect(known);
      this.#options.log.info("connected to a machine again", { vm });
    } catch (error) {
      this.#options.log.warn("the connection to a machine broke; the next call tries again", { vm, error: String(error) });
    }
  }

  #refuse(vmId: string, action: Refusable): never {
    this.#find(vmId);
    throw new DriverError("unsupported", REFUSALS[action]);
  }

  #find(vmId: string): Known {
    const known = this.#known.get(vmId);
    if (known === undefined) throw new DriverError("no-such-machine", `${this.#options.configFile} names no machine ${vmId}`);
    return known;
  }
}

function describe({ machine, control }: Known): Machine {
  const state: DriverState = control === null ? "stopped" : "running";
  return { vmId: machine.vmId, state, address: machine.address, port: machine.port };
}

function letGo(known: Known): void {
  const { control } = known;
  known.control = null;
  control?.close();
}

function isUnreachable(error: unknown): boolean {
  return error instanceof DriverError && error.code === "unreachable";
}

/** The agent's key pair: made at the first start, the private half for its owner only. */
function keepKey(stateDir: string, randomBytes: RandomBytes): SshKeyPair {
  const path = join(stateDir, "static-key");
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  try {
    return { privateKey: readFileSync(path, "utf8"), publicKey: readFileSync(`${path}.pub`, "utf8").trim() };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const pair = generateSshKeyPair(randomBytes);
  writeFileAtomically(`${path}.pub`, `${pair.publicKey}\n`);
  writeFileAtomically(path, pair.privateKey);
  return pair;
}
