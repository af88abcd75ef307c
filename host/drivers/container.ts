import { createHash } from "node:crypto";
import { availableParallelism, totalmem } from "node:os";
import type { Clock } from "../../protocol/bytes.ts";
import type { MachineResources } from "../../protocol/host-api.ts";
import type { Log } from "../../service/log.ts";
import { type Driver, DriverError, type Machine, type MachineSpec, type Progress, type SeedFile } from "../driver.ts";
import { AddressBook } from "../network/address-book.ts";
import { GuestNetwork } from "../network/guest-network.ts";
import { runCommand } from "../network/run-command.ts";
import { type ContainerSettings, DEFAULT_CONTAINER_SETTINGS } from "./container-settings.ts";
import { Engine, type EngineMachine } from "./engine.ts";
import { ensureGuestImage, sharedImageStore } from "./guest-image.ts";
import { claimHome } from "./home-claim.ts";
import { idRangeOf } from "./id-ranges.ts";
import { guestsHaveIds } from "./ids-probe.ts";
import { allowInotify } from "./kernel-limits.ts";
import { removeEngineLeftovers, removeHalfStarted } from "./leftovers.ts";
import { MachineSizes } from "./machine-sizes.ts";
import type { EngineLimits } from "./machine-spec.ts";
import { type OrphanRules, removeOrphanLayers } from "./orphan-layers.ts";
import { raiseOwnLimits } from "./own-limits.ts";
import { type PodmanHome, podmanHome, writePodmanConfig } from "./podman-home.ts";
import { PodmanService } from "./podman-service.ts";

export interface ContainerDriverOptions {
  /** Where this host agent keeps its machines' disks and its network's address; one agent at a time. */
  readonly stateDir: string;
  /** Where the guest image is built and kept, for every agent of this machine. Disks made from it need it to stay. */
  readonly cacheDir: string;
  readonly log: Log;
  readonly settings?: ContainerSettings;
  readonly clock?: Clock;
}

/** Machines as containers of a podman of our own, each with a real userland, an address and an sshd. Needs root. */
export function createContainerDriver(options: ContainerDriverOptions): Driver {
  return new ContainerDriver(options);
}

/** What exists between `open` and `close`. */
interface Opened {
  readonly home: PodmanHome;
  readonly image: string;
  readonly service: PodmanService;
  readonly engine: Engine;
  readonly network: GuestNetwork;
  readonly addresses: AddressBook;
  readonly sizes: MachineSizes;
  /** Whether machines that are made now have ids of their own; those that are there keep what they have. */
  readonly ownIds: boolean;
}

const MIB = 1024 ** 2;
/** Images over each other from which on a machine cannot have ids of its own: snapshots from before `mostImages`. */
const TOO_DEEP_FOR_IDS = 18;

class ContainerDriver implements Driver {
  readonly name = "container";
  readonly #options: ContainerDriverOptions;
  readonly #settings: ContainerSettings;
  readonly #clock: Clock;
  #opened: Opened | null = null;

  constructor(options: ContainerDriverOptions) {
    this.#options = options;
    this.#settings = options.settings ?? DEFAULT_CONTAINER_SETTINGS;
    this.#clock = options.clock ?? Date.now;
  }

  async open(progress: Progress): Promise<void> {
    const { stateDir, cacheDir, log } = this.#options;
    const settings = this.#settings;
    const home = await podmanHome(stateDir);
    const image = await ensureGuestImage(cacheDir, progress);
    await claimHome(home);
    await allowInotify(settings, log);
    await writePodmanConfig(home, sharedImageStore(cacheDir), settings);
    const engine = new Engine(home, settings, await raiseOwnLimits(settings.maxOpenFiles));
    const ping = () => engine.ping();
    const tidy = (beforeMs: number, evenReusable: boolean) => tidyStore({ home, engine, log }, { beforeMs, evenReusable });
    const service = new PodmanService({
      home,
      log,
      ping,
      tidy: (startedMs) => tidy(startedMs, false),
      readyMs: settings.engineReadyMs,
    });
    try {
      await service.open();
      await engine.anchorStore(image);
      await tidy(this.#clock(), true);
      const network = await GuestNetwork.open(home.tag, stateDir, settings.network);
      const ids = idRangeOf(network.network, network.gateway);
      const ownIds = await guestsHaveIds({ engine, home, cacheDir, image, ids, wish: settings.userNamespaces, log });
      const [addresses, sizes] = [new AddressBook(network.network), new MachineSizes(stateDir)];
      this.#opened = { home, image, service, engine, network, addresses, sizes, ownIds };
      await this.#adopt(this.#opened);
    } catch (error) {
      this.#opened = null;
      await service.close();
      throw error;
    }
  }

  get gatewayAddress(): string {
    return this.#use().network.gateway;
  }

  routeMetadata(port: number): Promise<void> {
    return this.#use().network.routeMetadata(port);
  }

  vmAtAddress(address: string): string | null {
    return this.#opened?.addresses.vmAt(address) ?? null;
  }

  get defaultResources(): MachineResources {
    return { cpu: availableParallelism(), memory: Math.floor(this.#settings.memoryBytes / MIB) };
  }

  refuses({ cpu, memory, storage }: MachineResources): string | null {
    if (storage !== undefined)
      return "storage (rootfsSizeGb): a container's disk is a folder on its host's, so its size cannot be chosen.";
    const cpus = availableParallelism();
    if (cpu !== undefined && cpu > cpus) return `cpu (vcpuCount): this host has ${cpus} processors.`;
    const memoryMib = Math.floor(totalmem() / MIB);
    if (memory !== undefined && memory > memoryMib) return `memory (memSizeGb): this host has ${memoryMib} MiB.`;
    return null;
  }

  async list(): Promise<readonly Machine[]> {
    return (await this.#use().engine.list()).flatMap((machine) => asMachine(machine) ?? []);
  }

  async inspect(vmId: string): Promise<Machine | null> {
    return asMachine(await this.#use().engine.inspect(vmId));
  }

  async create(spec: MachineSpec): Promise<Machine> {
    const { engine, network, addresses, ownIds } = this.#use();
    const { vmId, internet = true, resources = {} } = spec;
    const found = await engine.inspect(vmId);
    if (asMachine(found) !== null) return this.start(vmId);
    // Its maker was interrupted, perhaps before the seed files were in, or who removed it: it holds nothing worth keeping.
    if (found !== null) await discard(this.#use(), vmId);
    const image = await this.#imageFor(spec);
    const address = addresses.assign(vmId);
    try {
      const files = [...systemFiles(vmId, network.nameservers), ...spec.files];
      const limits = { memoryBytes: this.#settings.memoryBytes, ...limitsOf(resources) };
      const ids = ownIds && !(await this.#isTooDeep(vmId, image)) ? idRangeOf(network.network, address) : null;
      await engine.create({ vmId, address, internet, image, limits, ids, files }, Math.floor(this.#clock() / 1000));
      return await this.#boot(vmId);
    } catch (error) {
      await this.delete(vmId).catch((failed: unknown) => {
        this.#options.log.error("a half-made machine could not be removed", { vmId, error: String(failed) });
      });
      throw error;
    }
  }

  async start(vmId: string): Promise<Machine> {
    const { engine, network } = this.#use();
    const made = await engine.inspect(vmId);
    const machine = asMachine(made);
    if (made === null || machine === null) throw unknown(vmId);
    if (made.halfStopped) await engine.stop(vmId);
    if (machine.state === "stopped" || made.halfStopped) return this.#boot(vmId);
    if (machine.state === "paused") await engine.unpause(vmId);
    else await engine.thaw(vmId);
    // A start may have been interrupted before the network was there; where it is, nothing changes.
    await network.attach(made.address, made.pid, made.internet);
    return { ...machine, state: "running" };
  }

  async pause(vmId: string): Promise<Machine> {
    const machine = await this.#find(vmId);
    if (machine.state !== "running") return machine;
    await this.#use().engine.pause(vmId);
    return { ...machine, state: "paused" };
  }

  async stop(vmId: string): Promise<Machine> {
    const { engine } = this.#use();
    const machine = await this.#find(vmId);
    // A frozen guest cannot hear that it should end.
    if (machine.state === "paused") await engine.unpause(vmId);
    if (machine.state !== "stopped") await engine.stop(vmId);
    return { ...machine, state: "stopped" };
  }

  async resize(vmId: string, resources: MachineResources): Promise<void> {
    const { engine, sizes } = this.#use();
    const machine = await this.#find(vmId);
    if (machine.state !== "stopped") await engine.limit(vmId, limitsOf(resources));
    sizes.add(vmId, resources);
  }

  async snapshot(vmId: string, snapshotId: string): Promise<void> {
    const { engine } = this.#use();
    if ((await engine.images.snapshotImage(snapshotId)) !== null) return;
    const { state } = await this.#find(vmId);
    if (state === "running") await engine.pause(vmId);
    try {
      await engine.capture(vmId, snapshotId);
    } finally {
      if (state === "running") await engine.unpause(vmId);
    }
  }

  async deleteSnapshot(snapshotId: string): Promise<void> {
    await this.#use().engine.images.removeSnapshot(snapshotId);
  }

  async delete(vmId: string): Promise<void> {
    const { engine, network, addresses, sizes } = this.#use();
    const machine = await engine.inspect(vmId);
    if (machine?.state === "paused") await engine.unpause(vmId);
    await engine.remove(vmId);
    if (machine !== null) {
      await network.detach(machine.address);
      // A snapshot that was deleted while the machine stood on it has waited for this.
      await engine.images.removeNameless(machine.imageId);
    }
    sizes.remove(vmId);
    addresses.release(vmId);
  }

  async close(): Promise<void> {
    if (this.#opened === null) return;
    const { home, engine, service, network } = this.#opened;
    const { log } = this.#options;
    try {
      const machines = (await engine.list()).filter((machine) => machine.state === "running" || machine.state === "paused");
      await Promise.all(machines.map((machine) => this.stop(machine.vmId)));
    } catch (error) {
      log.error("a machine did not stop and is killed", { error: String(error) });
    }
    this.#opened = null;
    await service.close();
    await removeEngineLeftovers(home, this.#settings.settleMs);
    await network.close();
  }

  async #boot(vmId: string): Promise<Machine> {
    const { engine, network, sizes } = this.#use();
    await startAnew(this.#use(), vmId, this.#settings.engineRequestMs);
    const machine = await engine.inspect(vmId);
    if (machine === null || machine.pid === 0) throw new DriverError("engine", `${vmId} ended as soon as it was started`);
    const resized = limitsOf(sizes.read(vmId));
    if (Object.keys(resized).length > 0) await engine.limit(vmId, resized);
    await network.attach(machine.address, machine.pid, machine.internet);
    return { vmId, address: machine.address, state: "running" };
  }

  /** Takes over the machines that are there: those that run keep running, those half made or half removed are removed. */
  async #adopt(opened: Opened): Promise<void> {
    const { engine, network, addresses } = opened;
    for (const { vmId, address, state, internet } of await engine.list()) {
      if (state === "new" || state === "going") {
        await discard(opened, vmId);
        continue;
      }
      addresses.restore(vmId, address);
      if (state === "stopped") {
        await clearUnknown(opened, vmId);
        continue;
      }
      if (state === "running") await engine.thaw(vmId);
      const pid = (await engine.inspect(vmId))?.pid ?? 0;
      if (pid !== 0) await network.attach(address, pid, internet);
    }
  }

  async #imageFor({ snapshotId }: MachineSpec): Promise<string> {
    const { engine, image } = this.#use();
    if (snapshotId === undefined) return image;
    const snapshot = await engine.images.snapshotImage(snapshotId);
    if (snapshot === null) throw new DriverError("no-such-snapshot", `there is no snapshot ${snapshotId}`);
    return snapshot;
  }

  async #isTooDeep(vmId: string, image: string): Promise<boolean> {
    const depth = await this.#use().engine.images.depthOf(image);
    if (depth < TOO_DEEP_FOR_IDS) return false;
    this.#options.log.warn("a snapshot of snapshots stands on too many to give its machine ids of its own", { vmId, depth });
    return true;
  }

  async #find(vmId: string): Promise<Machine> {
    const machine = await this.inspect(vmId);
    if (machine === null) throw unknown(vmId);
    return machine;
  }

  #use(): Opened {
    if (this.#opened === null) throw new DriverError("engine", "the container driver is not open");
    return this.#opened;
  }
}

/** Removes what an engine that was killed has left in its store. What cannot be removed takes space, and keeps nobody from anything. */
async function tidyStore({ home, engine, log }: Pick<Opened, "home" | "engine"> & { log: Log }, rules: OrphanRules): Promise<void> {
  try {
    await engine.images.removeUnfinished(rules.beforeMs);
    await removeOrphanLayers(home, rules);
  } catch (error) {
    log.warn("what an engine that was killed left in its store is not removed", { error: String(error) });
  }
}

/** Removes a machine that was half made or half removed. */
async function discard(opened: Opened, vmId: string): Promise<void> {
  await clearUnknown(opened, vmId);
  await opened.engine.remove(vmId);
}

/** Takes away what the engine does not know of a machine that does not run. */
async function clearUnknown({ home, engine }: Opened, vmId: string): Promise<void> {
  const made = await engine.inspect(vmId);
  if (made !== null && !made.halfStarted) await removeHalfStarted(home, made.containerId);
}

/** Starts a machine; once more, from scratch, where what an interrupted start has left is in the way. */
async function startAnew(opened: Opened, vmId: string, limitMs: number): Promise<void> {
  const { engine, home } = opened;
  try {
    await engine.start(vmId);
  } catch (error) {
    const made = await engine.inspect(vmId);
    if (made === null || made.state === "running" || made.state === "paused") throw error;
    await removeHalfStarted(home, made.containerId);
    // Only this makes the engine forget that the machine was ready to run; where it refuses, nothing is lost.
    const cleanUp = ["container", "cleanup", made.containerId];
    const options = { env: home.env, timeoutMs: limitMs };
    if (made.halfStarted) await runCommand("engine", "podman", cleanUp, options).catch(() => undefined);
    await engine.start(vmId);
  }
}

function unknown(vmId: string): DriverError {
  return new DriverError("no-such-machine", `there is no machine ${vmId}`);
}

function asMachine(machine: EngineMachine | null): Machine | null {
  if (machine === null || machine.state === "new" || machine.state === "going") return null;
  return { vmId: machine.vmId, address: machine.address, state: machine.state };
}

function limitsOf({ cpu, memory }: MachineResources): EngineLimits {
  return { ...(cpu === undefined ? {} : { cpus: cpu }), ...(memory === undefined ? {} : { memoryBytes: memory * MIB }) };
}

/** What every guest has: its resolvers, and a machine id that is its own without being random. */
function systemFiles(vmId: string, nameservers: readonly string[]): readonly SeedFile[] {
  return [
    { path: "/etc/resolv.conf", mode: 0o644, content: nameservers.map((address) => `nameserver ${address}\n`).join("") },
    { path: "/etc/machine-id", mode: 0o444, content: `${createHash("sha256").update(vmId).digest("hex").slice(0, 32)}\n` },
  ];
}
