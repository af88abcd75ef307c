import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { platformRandomBytes } from "../../../protocol/bytes.ts";
import { generateSshKeyPair } from "../../../service/ssh-keys.ts";
import { DriverError, type Progress } from "../../driver.ts";
import { type QemuMachine, qemuArguments } from "./command-line.ts";
import { GuestLine } from "./guest-line.ts";
import { standOn, type VmImage } from "./image.ts";
import { saveMemory } from "./memory-file.ts";
import { killQemu, qemuEnds, startQemu } from "./process.ts";
import { Qmp } from "./qmp.ts";
import { writeSeed } from "./seed.ts";
import type { QemuSettings } from "./settings.ts";

/** A machine that has booted, stood still at that moment: what new machines begin with instead of a boot. */
export interface GoldenMachine {
  /** Its memory as a file, which copies share as long as they do not write to it. */
  readonly memory: string;
  /** Its devices. */
  readonly devices: string;
  readonly disk: string;
}

/** How a QEMU of this host is started, whatever it runs. */
export interface QemuWay {
  /** What `qemu-system-x86_64 --version` says. */
  readonly version: string;
  readonly acceleration: "kvm" | "tcg";
  readonly image: VmImage;
  readonly settings: QemuSettings;
}

/** The newest machine type of a QEMU. */
export function machineTypeOf({ version }: Pick<QemuWay, "version">): string {
  const named = /version (\d+\.\d+)/.exec(version)?.[1];
  if (named === undefined) throw new DriverError("engine", `not understood as QEMU's version: ${version.split("\n")[0]}`);
  return `pc-q35-${named}`;
}

/** Any MAC address will do: a copy is given its own before it says a word. */
const GOLDEN_MAC = "02:50:00:00:00:01";

/** Boots the golden machine for this image, QEMU, processor and size once, and keeps it in `cacheDir`. */
export async function ensureGoldenMachine(cacheDir: string, way: QemuWay, progress: Progress): Promise<GoldenMachine> {
  const dir = join(cacheDir, `golden-${await goldenKey(way)}`);
  const golden = filesOf(dir);
  if (existsSync(dir)) return golden;
  progress("booting the machine that new ones are copies of (once)");
  const work = await mkdtemp(join(cacheDir, "golden-build."));
  try {
    await bootOnce(work, way);
    // Whoever came first at the same time has built the same.
    await rename(work, dir).catch((error: unknown) => {
      if (!existsSync(dir)) throw error;
    });
  } finally {
    await killQemu(work);
    await rm(work, { recursive: true, force: true });
  }
  return golden;
}

function filesOf(dir: string): GoldenMachine {
  return { memory: join(dir, "memory"), devices: join(dir, "devices"), disk: join(dir, "disk.qcow2") };
}

/** Memory fits only the very same virtual hardware. */
async function goldenKey({ version, acceleration, image, settings }: QemuWay): Promise<string> {
  const processor =
    acceleration === "tcg" ? null : /^model name\s[\s\S]*?^flags\s.*$/m.exec(await readFile("/proc/cpuinfo", "utf8"))?.[0];
  const parts = [image.key, version, acceleration, processor, settings.memoryMib, settings.cpus];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}

async function bootOnce(work: string, way: QemuWay): Promise<void> {
  const { acceleration, image, settings } = way;
  const { memory, devices, disk } = filesOf(work);
  const seed = join(work, "seed");
  await mkdir(work, { recursive: true });
  await standOn(image.disk, "raw", disk);
  // Copies bring their own key and id; these only let sshd and systemd come up.
  const hostKey = generateSshKeyPair(platformRandomBytes);
  const files = [
    { path: "/etc/ssh/ssh_host_ed25519_key", mode: 0o600, content: hostKey.privateKey },
    { path: "/etc/machine-id", mode: 0o444, content: `${randomBytes(16).toString("hex")}\n` },
  ];
  await writeSeed(seed, files, 0);
  const machine: QemuMachine = {
    name: "postern-golden",
    machineType: machineTypeOf(way),
    acceleration,
    translationCacheMib: settings.translationCacheMib,
    cpus: settings.cpus,
    memoryMib: settings.memoryMib,
    memoryFile: { path: memory, way: "shared" },
    kernel: image.kernel,
    initrd: image.initrd,
    kernelWords: ["postern.name=golden"],
    disk,
    seed,
    tap: `pg${randomBytes(4).toString("hex")}`,
    mac: GOLDEN_MAC,
    runDir: work,
    console: join(work, "console.log"),
    uid: null,
    incoming: false,
  };
  await startQemu(qemuArguments(machine), work, settings.requestMs);
  const line = new GuestLine(join(work, "agent"));
  const up = line.ready(settings.bootMs);
  const qmp = await Qmp.open(join(work, "qmp"), settings.requestMs);
  try {
    await qmp.ask("cont");
    if (!(await up)) throw new DriverError("image", `the golden machine was not up within ${settings.bootMs} ms`);
    await line.ask("sync", [], settings.bootMs);
    await qmp.ask("stop");
    await saveMemory(qmp, work, devices, settings.memoryMs, true);
    await qmp.ask("quit");
    await qemuEnds(work, settings.requestMs);
  } finally {
    qmp.close();
  }
  await chmod(memory, 0o444);
  await chmod(disk, 0o444);
}
