import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile, stat, statfs } from "node:fs/promises";
import { release } from "node:os";
import { dirname, join } from "node:path";
import { kvmAnswer } from "../../host/drivers/qemu/kvm-probe.ts";
import { enrolledAs } from "../../service/credential.ts";
import { messageOf } from "../../service/message-of.ts";
import { type Finding, good, problem, warning } from "./check.ts";
import { judgeCgroups, judgeDisk, judgeForwarding, judgeUserNamespaces } from "./kernel.ts";

interface Ended {
  readonly status: number;
  readonly words: string;
}

/** Runs a command; one that cannot be run ends with status -1. `words`: all that it wrote. */
function run(command: string, args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(command, args, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
      resolve({ status, words: `${stdout}${stderr}`.trim() || (error?.message ?? "") });
    });
  });
}

const textOf = (path: string) => readFile(path, "utf8").catch(() => null);

const INSTALLER = join(import.meta.dirname, "..", "install-system-packages.sh");

/** Whether the Debian packages are there that the driver needs. */
export async function lookAtPackages(driver: string): Promise<Finding> {
  const wanted = driver === "qemu" ? ["--with-qemu"] : [];
  const { status, words } = await run(INSTALLER, ["--check", ...wanted]);
  if (status === 0) return good("all there");
  return problem(words, `run as root: ${[INSTALLER, ...wanted].join(" ")}`);
}

export async function lookAtCgroups(): Promise<Finding> {
  const [v2, v1] = await Promise.all([textOf("/sys/fs/cgroup/cgroup.controllers"), textOf("/proc/cgroups")]);
  return judgeCgroups(v2, v2 === null ? v1 : null);
}

/** Whether containers can have users of their own. */
export async function lookAtUserNamespaces(driver: string, wish: "auto" | "on" | "off"): Promise<Finding> {
  if (driver === "qemu") return good("not needed by the driver qemu");
  return judgeUserNamespaces(await textOf("/proc/sys/user/max_user_namespaces"), release(), wish);
}

/** Whether rules can be made: a transaction that is checked and not made. */
export async function lookAtNftables(): Promise<Finding> {
  const { status, words } = await run("nft", ["--check", "add table inet postern_doctor"]);
  if (status === 0) return good("rules can be made");
  return problem(words.split("\n")[0] ?? "", "guests are kept apart by nftables: run as root, on a kernel with nf_tables");
}

export async function lookAtForwarding(): Promise<Finding> {
  return judgeForwarding(await textOf("/proc/sys/net/ipv4/ip_forward"));
}

/** The disk of a folder, or of the nearest one above it that is there already. */
export async function lookAtDisk(folder: string, leastBytes: number): Promise<Finding> {
  const there = nearest(folder);
  try {
    const { bavail, bsize, ffree, files } = await statfs(there);
    return judgeDisk(folder, { freeBytes: bavail * bsize, freeFiles: ffree, files }, leastBytes);
  } catch (error) {
    return problem(`${there}: ${messageOf(error)}`, "make the folder, on a local disk");
  }
}

/** Whether the host is enrolled, or the secret that it enrols with is there; where that is there, only its owner's. */
export async function lookAtKeyFile(path: string | undefined, stateDir: string | undefined): Promise<Finding> {
  const found = path === undefined ? null : await stat(path).catch(() => null);
  if (path === undefined || found === null) {
    try {
      const serviceId = stateDir === undefined ? null : enrolledAs(stateDir);
      if (serviceId !== null) return good(`enrolled as ${serviceId}; what it enrolled with is no longer needed`);
    } catch (error) {
      return problem(messageOf(error), "see docs/deploy.md");
    }
    if (path === undefined) return warning("not named", "set POSTERN_SERVICE_KEY_FILE as for serve-host, and look again");
    return problem(`${path} is not there`, "make a key with `postern keys`, into a file of mode 0600; see docs/deploy.md");
  }
  if ((found.mode & 0o077) !== 0) return problem(`${path} may be read by others than its owner`, `chmod 600 ${path}`);
  return good(path);
}

/** Whether virtual machines run at speed. Asks a kernel to come up, where only that tells. */
export async function lookAtKvm(settings: {
  driver: string;
  cacheDir: string;
  diskGib: number;
  probeMs: number;
}): Promise<Finding> {
  const { driver, cacheDir, diskGib, probeMs } = settings;
  if (driver !== "qemu" && driver !== "auto") return good(`not needed by the driver ${driver}`);
  if ((await run("qemu-system-x86_64", ["--version"])).status !== 0) {
    return driver === "auto"
      ? good("QEMU is not installed; containers are made")
      : problem("QEMU is not installed", "see packages");
  }
  try {
    const kvm = await kvmAnswer(cacheDir, diskGib, probeMs, () => undefined);
    if (kvm.works) return good("a kernel came up on it");
    const advice = "guests run slower without: enable virtualization in the firmware, or nested virtualization where this is a VM";
    return driver === "auto" ? good(`no: ${kvm.why}; containers are made`) : warning(kvm.why, advice);
  } catch (error) {
    return problem(`not asked: ${messageOf(error)}`, "run as root, with room in POSTERN_CACHE");
  }
}

function nearest(folder: string): string {
  return existsSync(folder) || folder === dirname(folder) ? folder : nearest(dirname(folder));
}
