import { existsSync } from "node:fs";
import { chmod, mkdir, readdir, rename, rm } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { dirname, join } from "node:path";
import type { Clock } from "../../../protocol/bytes.ts";
import type { MachineResources } from "../../../protocol/host-api.ts";
import type { Log } from "../../../service/log.ts";
import { type Driver, DriverError, type DriverState, type Machine, type MachineSpec, type Progress } from "../../driver.ts";
import { AddressBook } from "../../network/address-book.ts";
import { GuestNetwork } from "../../network/guest-network.ts";
import { claimHome } from "../home-claim.ts";
import { removeEngineLeftovers } from "../leftovers.ts";
import { podmanHome } from "../podman-home.ts";
import { ensureGoldenMachine, machineTypeOf, type QemuWay } from "./golden.ts";
import { copyDisk, ensureVmImage, standOn } from "./image.ts";
import { probeKvm, qemuVersion } from "./kvm-probe.ts";
import { type VmFile, VmStore } from "./machine-store.ts";
import { RunningVm, type VmParts } from "./running-vm.ts";
import { clearSeed, systemFiles, writeSeed } from "./seed.ts";
import { DEFAULT_QEMU_SETTINGS, type QemuSettings } from "./settings.ts";

export interface QemuDriverOptions {
  /** Where this host agent keeps its machines' disks and its network's address; one agent at a time. */
  readonly stateDir: string;
  /** Where image and golden machine are built and kept, for every agent of this machine. Disks made from them need them to stay. */
  readonly cacheDir: string;
  readonly log: Log;
  readonly settings?: QemuSettings;
  readonly clock?: Clock;
}

/** Virtual machines with a kernel of their own, by KVM where it works and else without. Needs root, and amd64. */
export function createQemuDriver(options: QemuDriverOptions): Driver {
  return new QemuDriver(options);
}

/** What exists between `open` and `close`. */
interface Opened extends VmParts {
  readonly close: () => Promise<void>;
  readonly addresses: AddressBook;
  readonly store: VmStore;
  readonly snapshotDir: string;
}

const MIB = 1024 ** 2;
/** With less, a kernel and a systemd leave nothing to work with, or do not come up. */
const LEAST_MEMORY_MIB = 256;
/** User ids that no system hands out (systemd's own ranges end below), 4,096 for each of 4,096 agents. */
const UID_RANGE = 0x7000_0000;

class QemuDriver implements Driver {
  readonly name = "qemu";
  readonly resizesAtNextStart = true;
  readonly #options: QemuDriverOptions;
  readonly #settings: QemuSettings;
  #opened: Opened | null = null;

  constructor(options: QemuDriverOptions) {
    this.#options = options;
    this.#settings = options.settings ?? DEFAULT_QEMU_SETTINGS;
  }

  async open(progress: Progress): Promise<void> {
    const { stateDir, cacheDir, log, clock = Date.now } = this.#options;
    const settings = this.#settings;
    const home = await podmanHome(stateDir);
    await mkdir(cacheDir, { recursive: true });
    const image = await ensureVmImage(cacheDir, settings.diskGib, progress);
    const kvm = await probeKvm(cacheDir, image, settings.probeMs, progress);
    log.info("virtual machines", kvm.works ? { acceleration: "kvm" } : { acceleration: "tcg", why: kvm.why });
    const way: QemuWay = { version: await qemuVersion(), acceleration: kvm.works ? "kvm" : "tcg", image, settings };
    const golden = await ensureGoldenMachine(cacheDir, way, progress);
    await claimHome(home);
    // Each QEMU runs as a user of its own and reaches its own folder below these; nobody sees what else is in them.
    for (const dir of [join(home.runDir, "vm"), home.runDir, dirname(home.runDir)]) {
      await mkdir(dir, { recursive: true });
      await chmod(dir, 0o711);
    }
    const network = await GuestNetwork.open(home.tag, stateDir, settings.network);
    const snapshotDir = join(stateDir, "disks");
    await mkdir(snapshotDir, { recursive: true, mode: 0o700 });
    // Copies whose maker was interrupted.
    for (const name of await readdir(snapshotDir)) if (name.endsWith(".new")) await rm(join(snapshotDir, name));
    this.#opened = {
      way,
      golden,
      network,
      runDir: home.runDir,
      firstUid: UID_RANGE + (Number.parseInt(home.tag, 16) % 4096) * 4096,
      clock,
      close: async () => {
        await removeEngineLeftovers(home, 0);
        await network.close();
      },
      addresses: new AddressBook(network.network),
      store: new VmStore(stateDir),
      snapshotDir,
    };
    await this.#adopt(this.#opened);
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
    return { cpu: this.#settings.cpus, memory: this.#settings.memoryMib };
  }

  refuses({ cpu, memory, storage }: MachineResources): string | null {
    if (storage !== undefined) return `storage (rootfsSizeGb): every disk here holds ${this.#settings.diskGib} GiB.`;
    const cpus = availableParallelism();
    if (cpu !== undefined && cpu > cpus) return `cpu: this host has ${cpus} processors.`;
    if (memory !== undefined && memory < LEAST_MEMORY_MIB) return `memory: a virtual machine needs ${LEAST_MEMORY_MIB} MiB.`;
    const memoryMib = Math.floor(totalmem() / MIB);
    if (memory !== undefined && memory > memoryMib) return `memory: this host has ${memoryMib} MiB.`;
    return null;
  }

  async list(): Promise<readonly Machine[]> {
    return Promise.all(
      this.#use()
        .store.list()
        .filter((vm) => vm.phase === "made")
        .map((vm) => this.#describe(vm)),
    );
  }

  async inspect(vmId: string): Promise<Machine | null> {
    const vm = this.#use().store.read(vmId);
    return vm === null || vm.phase === "making" ? null : this.#describe(vm);
  }

  async create(spec: MachineSpec): Promise<Machine> {
    const { store, addresses } = this.#use();
    const { vmId, internet = true, resources = {} } = spec;
    if (store.read(vmId)?.phase === "made") return this.start(vmId);
    // Its maker was interrupted: it holds nothing worth keeping.
    await this.delete(vmId);
    const address = addresses.assign(vmId);
    const vm: VmFile = { vmId, address, internet, phase: "making", resources, running: this.#sizes(resources) };
    try {
      store.save(vm);
      await this.#make(vm, spec);
      store.save({ ...vm, phase: "made" });
      return { vmId, address, state: "running" };
    } catch (error) {
      await this.delete(vmId).catch((failed: unknown) => {
        this.#options.log.error("a half-made machine could not be removed", { vmId, error: String(failed) });
      });
      throw error;
    }
  }

  async start(vmId: string): Promise<Machine> {
    const { store } = this.#use();
    const vm = this.#find(vmId);
    const { state } = await this.#describe(vm);
    if (state === "paused") await this.#running(vm).wake();
    if (state === "stopped") {
      const sized = { ...vm, running: this.#sizes(vm.resources) };
      store.save(sized);
      await this.#running(sized).boot(false);
    }
    return { vmId, address: vm.address, state: "running" };
  }

  async pause(vmId: string): Promise<Machine> {
    const vm = this.#find(vmId);
    const machine = await this.#describe(vm);
    if (machine.state !== "running") return machine;
    await this.#running(vm).sleep();
    await this.#use().network.detach(vm.address);
    return this.#describe(vm);
  }

  async stop(vmId: string): Promise<Machine> {
    const { store, network } = this.#use();
    const vm = this.#find(vmId);
    const { state } = await this.#describe(vm);
    // Its disk was written before it went to sleep.
    if (state === "paused") await rm(store.paths(vmId).memory);
    if (state === "running") {
      await this.#running(vm).shutDown();
      await network.detach(vm.address);
    }
    return { vmId, address: vm.address, state: "stopped" };
  }

  async resize(vmId: string, resources: MachineResources): Promise<void> {
    const vm = this.#find(vmId);
    this.#use().store.save({ ...vm, resources: { ...vm.resources, ...resources } });
  }

  async snapshot(vmId: string, snapshotId: string): Promise<void> {
    const { store } = this.#use();
    const path = this.#snapshotPath(snapshotId);
    if (existsSync(path)) return;
    const vm = this.#find(vmId);
    const capture = async () => {
      await copyDisk(store.paths(vmId).disk, `${path}.new`);
      await rename(`${path}.new`, path);
    };
    try {
      if (await this.#running(vm).runs()) await this.#running(vm).heldStill(capture);
      else await capture();
    } finally {
      await rm(`${path}.new`, { force: true });
    }
  }

  async deleteSnapshot(snapshotId: string): Promise<void> {
    await rm(this.#snapshotPath(snapshotId), { force: true });
  }

  async delete(vmId: string): Promise<void> {
    const { store, network, addresses } = this.#use();
    const vm = store.read(vmId);
    if (vm !== null) {
      await this.#running(vm).kill();
      await network.detach(vm.address);
    }
    store.remove(vmId);
    addresses.release(vmId);
  }

  async close(): Promise<void> {
    if (this.#opened === null) return;
    const { store, close } = this.#opened;
    await Promise.all(
      store.list().map(async ({ vmId, phase }) => {
        try {
          if (phase === "made") await this.pause(vmId);
        } catch (error) {
          this.#options.log.error("a machine did not go to sleep and is ended", { vmId, error: String(error) });
        }
      }),
    );
    this.#opened = null;
    await close();
  }

  async #make(vm: VmFile, { snapshotId, files }: MachineSpec): Promise<void> {
    const { store, way, golden, network, clock } = this.#use();
    const { vmId } = vm;
    const { disk, seed } = store.paths(vmId);
    await writeSeed(seed, [...systemFiles(vmId, network.nameservers), ...files], Math.floor(clock() / 1000));
    const isGoldenSize = vm.running.cpus === this.#settings.cpus && vm.running.memoryMib === this.#settings.memoryMib;
    if (snapshotId !== undefined) {
      const snapshot = this.#snapshotPath(snapshotId);
      if (!existsSync(snapshot)) throw new DriverError("no-such-snapshot", `there is no snapshot ${snapshotId}`);
      await copyDisk(snapshot, disk);
      await this.#running(vm).boot(true);
    } else if (isGoldenSize) {
      await standOn(golden.disk, "qcow2", disk);
      await this.#running(vm).beginAsCopy();
    } else {
      await standOn(way.image.disk, "raw", disk);
      await this.#running(vm).boot(true);
    }
    await clearSeed(seed);
  }

  /** Takes over the machines that are there: those that run keep running, those that were half made are removed. */
  async #adopt({ store, addresses }: Opened): Promise<void> {
    for (const vm of store.list()) {
      if (vm.phase === "making") {
        await this.delete(vm.vmId);
        continue;
      }
      addresses.restore(vm.vmId, vm.address);
      try {
        await this.#running(vm).takeOver();
      } catch (error) {
        this.#options.log.error("a machine was not taken over and is ended", { vmId: vm.vmId, error: String(error) });
        await this.#running(vm).kill();
      }
    }
  }

  async #describe(vm: VmFile): Promise<Machine> {
    const { vmId, address } = vm;
    const runs = await this.#running(vm).runs();
    const state: DriverState = runs ? "running" : existsSync(this.#use().store.paths(vmId).memory) ? "paused" : "stopped";
    return { vmId, address, state };
  }

  #sizes({ cpu, memory }: MachineResources): VmFile["running"] {
    return {
      machineType: machineTypeOf(this.#use().way),
      cpus: cpu ?? this.#settings.cpus,
      memoryMib: memory ?? this.#settings.memoryMib,
    };
  }

  #snapshotPath(snapshotId: string): string {
    return join(this.#use().snapshotDir, `${snapshotId}.qcow2`);
  }

  #running(vm: VmFile): RunningVm {
    return new RunningVm(vm, this.#use().store.paths(vm.vmId), this.#use());
  }

  #find(vmId: string): VmFile {
    const vm = this.#use().store.read(vmId);
    if (vm === null || vm.phase === "making") throw new DriverError("no-such-machine", `there is no machine ${vmId}`);
    return vm;
  }

  #use(): Opened {
    if (this.#opened === null) throw new DriverError("engine", "the qemu driver is not open");
    return this.#opened;
  }
}
