import { existsSync } from "node:fs";
import { chown, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../../protocol/bytes.ts";
import { messageOf } from "../../../service/message-of.ts";
import { DriverError } from "../../driver.ts";
import { macOf, parseAddress } from "../../network/addressing.ts";
import type { GuestNetwork } from "../../network/guest-network.ts";
import { type QemuMachine, qemuArguments } from "./command-line.ts";
import type { GoldenMachine, QemuWay } from "./golden.ts";
import { GuestLine } from "./guest-line.ts";
import type { VmFile, VmPaths } from "./machine-store.ts";
import { loadMemory, saveMemory, unfinished } from "./memory-file.ts";
import { killQemu, lastWords, qemuEnds, qemuRuns, startQemu } from "./process.ts";
import { Qmp } from "./qmp.ts";
import { timeAndSecret } from "./seed.ts";

export interface VmParts {
  readonly way: QemuWay;
  readonly golden: GoldenMachine;
  readonly network: GuestNetwork;
  /** Folder of the driver's sockets and pid files. */
  readonly runDir: string;
  /** First user id of this driver's machines; each has its own, by its place in the network. */
  readonly firstUid: number;
  readonly clock: Clock;
}

/**
 * One machine's QEMU: how it is started in each of the three ways, put to sleep and ended. Who calls these one at a time for a
 * machine may be killed at any moment: the record, the memory file and the process together always say what is the case.
 */
export class RunningVm {
  readonly #vm: VmFile;
  readonly #paths: VmPaths;
  readonly #parts: VmParts;
  readonly #runDir: string;
  readonly line: GuestLine;

  constructor(vm: VmFile, paths: VmPaths, parts: VmParts) {
    this.#vm = vm;
    this.#paths = paths;
    this.#parts = parts;
    this.#runDir = join(parts.runDir, "vm", vm.vmId);
    this.line = new GuestLine(join(this.#runDir, "agent"));
  }

  runs(): Promise<boolean> {
    return qemuRuns(this.#runDir);
  }

  /** From its disk. Answers when its guest is up if `wait`, else when it begins to boot. */
  async boot(wait: boolean): Promise<void> {
    const { bootMs } = this.#parts.way.settings;
    await this.#spawn({});
    const up = wait ? this.line.ready(bootMs) : Promise.resolve(true);
    await this.#monitor((qmp) => qmp.ask("cont"));
    if (!(await up)) throw new DriverError("engine", `${this.#vm.vmId} was not up within ${bootMs} ms`);
  }

  /** As a copy of the golden machine; answers when it has become a machine of its own. */
  async beginAsCopy(): Promise<void> {
    const { golden, way, network, clock } = this.#parts;
    const { vmId, address } = this.#vm;
    await this.#spawn({ memoryFile: { path: golden.memory, way: "private" }, incoming: true });
    await this.#monitor(async (qmp) => {
      await loadMemory(qmp, this.#runDir, golden.devices, way.settings.memoryMs, true);
      await qmp.ask("cont");
    });
    const place = [`${address}/${network.network.prefix}`, network.gateway, macOf(address), String(network.mtu)];
    const adopted = await this.line.ask("adopt", [vmId, ...place, ...timeAndSecret(clock())], way.settings.adoptMs);
    if (!adopted) throw new DriverError("engine", `${vmId} did not take its own name within ${way.settings.adoptMs} ms`);
  }

  /** With the memory that it had when it went to sleep. */
  async wake(): Promise<void> {
    const { memory } = this.#paths;
    await this.#spawn({ incoming: true });
    await this.#monitor(async (qmp) => {
      try {
        await loadMemory(qmp, this.#runDir, memory, this.#parts.way.settings.memoryMs);
      } catch (error) {
        await killQemu(this.#runDir);
        const what = "its memory could not be read; stopped, it starts from its disk";
        throw new DriverError("engine", `${this.#vm.vmId}: ${what}: ${messageOf(error)}`);
      }
      // Before it runs: memory that is older than the disk must never be there to be woken with.
      await rm(memory);
      await qmp.ask("cont");
    });
    // Nobody waits for a guest that does not listen; its clock is then wrong, as its own root may make it at any time.
    void this.line.ask("wake", timeAndSecret(this.#parts.clock()), this.#parts.way.settings.adoptMs);
  }

  /** Memory to the disk, process gone. */
  async sleep(): Promise<void> {
    const { memoryMs, requestMs, syncMs } = this.#parts.way.settings;
    await this.line.ask("sync", [], syncMs);
    await this.#monitor(async (qmp) => {
      await qmp.ask("stop");
      try {
        await saveMemory(qmp, this.#runDir, this.#paths.memory, memoryMs);
      } catch (error) {
        await qmp.ask("cont");
        throw error;
      }
      // It may end before it answers.
      await qmp.ask("quit").catch(() => undefined);
    });
    if (!(await qemuEnds(this.#runDir, requestMs))) await killQemu(this.#runDir);
  }

  /** Lets the guest end by itself for a while, then ends it. */
  async shutDown(): Promise<void> {
    const { stopGraceMs, syncMs } = this.#parts.way.settings;
    if (!(await this.line.ask("off", [], syncMs)) || !(await qemuEnds(this.#runDir, stopGraceMs))) await killQemu(this.#runDir);
  }

  async kill(): Promise<void> {
    await killQemu(this.#runDir);
    await rm(this.#runDir, { recursive: true, force: true });
  }

  /** Holds the machine still, with all its disk written, while `work` reads its disk. */
  async heldStill(work: () => Promise<void>): Promise<void> {
    await this.line.ask("sync", [], this.#parts.way.settings.syncMs);
    await this.#monitor(async (qmp) => {
      await qmp.ask("stop");
      try {
        await work();
      } finally {
        await qmp.ask("cont");
      }
    });
  }

  /** Takes over a QEMU that an earlier agent has left in whatever state. */
  async takeOver(): Promise<void> {
    // As large as the machine, and never whole.
    await rm(unfinished(this.#paths.memory), { force: true });
    if (!(await this.runs())) return;
    // Memory that was saved whole is the machine now: its process was about to end, or had not begun to run again.
    if (existsSync(this.#paths.memory)) {
      await killQemu(this.#runDir);
      return;
    }
    await this.#parts.network.attachTap(this.#vm.address, this.#vm.internet);
    await this.#monitor((qmp) => qmp.ask("cont"));
  }

  async #monitor<T>(work: (qmp: Qmp) => Promise<T>): Promise<T> {
    const qmp = await Qmp.open(join(this.#runDir, "qmp"), this.#parts.way.settings.requestMs);
    try {
      return await work(qmp);
    } catch (error) {
      const words = await lastWords(this.#runDir);
      if (words === "") throw error;
      throw new DriverError("engine", `${messageOf(error)}; it said: ${words}`);
    } finally {
      qmp.close();
    }
  }

  async #spawn(start: Partial<Pick<QemuMachine, "memoryFile" | "incoming">>): Promise<void> {
    const { way, network, firstUid } = this.#parts;
    const { vmId, address, internet, running } = this.#vm;
    const { disk, seed, console } = this.#paths;
    const uid = firstUid + ((parseAddress(address) ?? 0) - network.network.base);
    await killQemu(this.#runDir);
    await rm(this.#runDir, { recursive: true, force: true });
    await mkdir(this.#runDir, { recursive: true, mode: 0o700 });
    await chown(this.#runDir, uid, uid);
    const words = {
      name: vmId,
      address: `${address}/${network.network.prefix}`,
      gateway: network.gateway,
      mtu: String(network.mtu),
    };
    const machine: QemuMachine = {
      name: vmId,
      machineType: running.machineType,
      acceleration: way.acceleration,
      translationCacheMib: way.settings.translationCacheMib,
      cpus: running.cpus,
      memoryMib: running.memoryMib,
      kernel: way.image.kernel,
      initrd: way.image.initrd,
      kernelWords: Object.entries(words).map(([key, value]) => `postern.${key}=${value}`),
      disk,
      seed,
      tap: network.portName(address),
      mac: macOf(address),
      runDir: this.#runDir,
      console,
      uid,
      incoming: false,
      ...start,
    };
    await startQemu(qemuArguments(machine), this.#runDir, way.settings.requestMs);
    await network.attachTap(address, internet);
  }
}
