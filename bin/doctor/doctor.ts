import { readSettings } from "../../service/settings.ts";
import { type Check, examine } from "./check.ts";
import { lookAtClock, lookAtEdge } from "./edge.ts";
import {
  lookAtCgroups,
  lookAtDisk,
  lookAtForwarding,
  lookAtKeyFile,
  lookAtKvm,
  lookAtNftables,
  lookAtPackages,
  lookAtUserNamespaces,
} from "./host.ts";
import { judgeUser } from "./kernel.ts";
import { type DoctorSettings, doctorSettings, examinedSettings } from "./settings.ts";

/**
 * Looks whether this machine can be a host, and says what to do about what it cannot: one line for each thing, with the environment
 * that `serve-host` would have. Resolves with the exit status: 1 when anything is a problem. Throws `SettingsError` for a bad setting.
 */
export async function runDoctor(env: NodeJS.ProcessEnv, print: (line: string) => void): Promise<number> {
  const settings = { ...readSettings(doctorSettings, env), ...readSettings(examinedSettings, env) };
  const problems = await examine(checksOf(settings), print);
  print(
    problems === 0 ? "This machine can be a host." : `${problems} of these must be put right before this machine can be a host.`,
  );
  return problems === 0 ? 0 : 1;
}

function checksOf(settings: DoctorSettings): readonly Check[] {
  const { POSTERN_EDGE_URL: edgeUrl, POSTERN_HOST_STATE: stateDir, POSTERN_CACHE: cacheDir, POSTERN_DRIVER: driver } = settings;
  const timeoutMs = settings.POSTERN_DOCTOR_EDGE_MS;
  const edge: readonly Check[] = [
    { name: "edge", look: () => lookAtEdge(edgeUrl, timeoutMs) },
    { name: "clock", look: () => lookAtClock(edgeUrl, { timeoutMs, skewMs: settings.POSTERN_DOCTOR_CLOCK_MS }) },
    { name: "service key", look: () => lookAtKeyFile(settings.POSTERN_SERVICE_KEY_FILE, stateDir) },
  ];
  // Machines that are there already need nothing of the host but the way to them.
  if (driver === "static") return edge;
  const qemu = { driver, cacheDir, diskGib: settings.POSTERN_QEMU_DISK_GIB, probeMs: settings.POSTERN_QEMU_PROBE_MS };
  return [
    { name: "user", look: async () => judgeUser(process.getuid?.() ?? -1) },
    { name: "packages", look: () => lookAtPackages(driver) },
    { name: "kvm", look: () => lookAtKvm(qemu) },
    { name: "cgroups", look: lookAtCgroups },
    { name: "user namespaces", look: () => lookAtUserNamespaces(driver, settings.POSTERN_CONTAINER_USER_NAMESPACES) },
    { name: "nftables", look: lookAtNftables },
    { name: "ip forwarding", look: lookAtForwarding },
    { name: "disk", look: () => lookAtDisk(stateDir ?? "/var/lib", settings.POSTERN_DOCTOR_DISK_BYTES) },
    { name: "cache", look: () => lookAtDisk(cacheDir, settings.POSTERN_DOCTOR_DISK_BYTES) },
    ...edge,
  ];
}
