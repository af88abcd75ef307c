import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { writeFileAtomically } from "../../service/atomic-file.ts";
import type { Log } from "../../service/log.ts";
import { SettingsError } from "../../service/settings.ts";
import type { Driver, Progress } from "../driver.ts";
import type { HostSettings } from "../settings.ts";
import { chooseDriver } from "./choose.ts";

/**
 * Loads the driver that the settings name, or the one that suits this host, which may take a boot to find out. Another's
 * libraries need not be there. Throws `SettingsError`, and `DriverError` where nothing suits.
 */
export async function loadDriver(settings: HostSettings, log: Log, progress: Progress = () => undefined): Promise<Driver> {
  const name = settings.POSTERN_DRIVER;
  if (name !== "auto") return load(name, settings, log);
  const choice = await chooseDriver({
    before: driverBefore(settings.POSTERN_HOST_STATE),
    root: process.getuid?.() === 0,
    podman: isInstalled("podman"),
    qemu: isInstalled("qemu-system-x86_64") && isInstalled("qemu-img"),
    kvm: async () => {
      const { kvmAnswer } = await import("./qemu/kvm-probe.ts");
      const { diskGib, probeMs } = await qemuSettings(settings);
      return kvmAnswer(settings.POSTERN_CACHE, diskGib, probeMs, progress);
    },
  });
  log.info("driver chosen", { ...choice });
  progress(`driver ${choice.driver}: ${choice.why}`);
  mkdirSync(settings.POSTERN_HOST_STATE, { recursive: true, mode: 0o700 });
  writeFileAtomically(join(settings.POSTERN_HOST_STATE, CHOICE_FILE), `${choice.driver}\n`);
  return load(choice.driver, settings, log);
}

/** The file of a host's state in which `auto` remembers what it chose. */
const CHOICE_FILE = "driver";

function driverBefore(stateDir: string): "container" | "qemu" | null {
  try {
    const name = readFileSync(join(stateDir, CHOICE_FILE), "utf8").trim();
    if (name === "container" || name === "qemu") return name;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  // A host from before there was a choice.
  return existsSync(join(stateDir, "containers", "storage")) ? "container" : null;
}

async function load(name: "container" | "qemu" | "static", settings: HostSettings, log: Log): Promise<Driver> {
  const { POSTERN_HOST_STATE: stateDir, POSTERN_CACHE: cacheDir } = settings;
  switch (name) {
    case "container": {
      const { createContainerDriver } = await import("./container.ts");
      return createContainerDriver({ stateDir, cacheDir, log, settings: await containerSettings(settings) });
    }
    case "qemu": {
      const { createQemuDriver } = await import("./qemu/qemu.ts");
      return createQemuDriver({ stateDir, cacheDir, log, settings: await qemuSettings(settings) });
    }
    case "static": {
      const configFile = settings.POSTERN_STATIC_MACHINES;
      if (configFile === undefined) {
        throw new SettingsError("POSTERN_STATIC_MACHINES: the driver static needs the file that names its machines");
      }
      const { createStaticDriver } = await import("./static/static.ts");
      return createStaticDriver({
        stateDir,
        configFile,
        settings: {
          connectMs: settings.POSTERN_STATIC_CONNECT_MS,
          keepaliveMs: settings.POSTERN_STATIC_KEEPALIVE_MS,
          wakeCommandMs: settings.POSTERN_STATIC_WAKE_COMMAND_MS,
          wakeMs: settings.POSTERN_STATIC_WAKE_MS,
          wakePollMs: settings.POSTERN_STATIC_WAKE_POLL_MS,
        },
        randomBytes: platformRandomBytes,
        log,
      });
    }
  }
}

async function containerSettings(settings: HostSettings) {
  const { DEFAULT_CONTAINER_SETTINGS } = await import("./container-settings.ts");
  return { ...DEFAULT_CONTAINER_SETTINGS, userNamespaces: settings.POSTERN_CONTAINER_USER_NAMESPACES };
}

async function qemuSettings(settings: HostSettings) {
  const { DEFAULT_QEMU_SETTINGS } = await import("./qemu/settings.ts");
  return {
    ...DEFAULT_QEMU_SETTINGS,
    memoryMib: settings.POSTERN_QEMU_MEMORY_MIB,
    cpus: settings.POSTERN_QEMU_CPUS,
    diskGib: settings.POSTERN_QEMU_DISK_GIB,
    bootMs: settings.POSTERN_QEMU_BOOT_MS,
    stopGraceMs: settings.POSTERN_QEMU_STOP_GRACE_MS,
    probeMs: settings.POSTERN_QEMU_PROBE_MS,
  };
}

function isInstalled(program: string): boolean {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/bin"];
  return folders.some((folder) => folder !== "" && existsSync(join(folder, program)));
}
