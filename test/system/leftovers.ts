import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { agentTag } from "../../host/network/addressing.ts";
import { run } from "./command.ts";
import { until } from "./poll.ts";

/**
 * What a system has in the kernel and could leave behind, each as lines that a person can read: processes of its parts and
 * of its guests, mounts, network interfaces, tables of nftables, and cgroups.
 */
export type Traces = Readonly<Record<"processes" | "mounts" | "interfaces" | "firewall" | "cgroups", readonly string[]>>;

/** The kernel takes a network namespace's interfaces away a moment after its last process. */
const GONE_DEADLINE_MS = 15_000;

/**
 * Takes stock of everything that belongs to a system: whatever names its home or its host agent's tag. The tag is in the
 * name of every interface, table and cgroup of an agent, so systems side by side do not count as each other's.
 */
export async function takeStock(home: string): Promise<Traces> {
  const tag = agentTag(join(home, "host"));
  const owned = (text: string) => text.includes(home) || text.includes(tag);
  return {
    processes: processes().filter(owned),
    mounts: readLines("/proc/self/mountinfo").filter(owned),
    interfaces: readdirSync("/sys/class/net").filter(owned),
    firewall: (await run("nft", ["list", "tables"])).stdout.toString().split("\n").filter(owned),
    cgroups: cgroupFolders().filter(owned),
  };
}

/** Waits until a system that has stopped has no trace left, and throws with those that stay. */
export async function expectNothingLeft(home: string): Promise<void> {
  let left: readonly string[] = [];
  try {
    await until("nothing is left", GONE_DEADLINE_MS, async () => {
      left = Object.entries(await takeStock(home)).flatMap(([kind, lines]) => lines.map((line) => `${kind}: ${line}`));
      return left.length === 0 ? true : undefined;
    });
  } catch (error) {
    throw new Error(`the stopped system left behind:\n${left.join("\n")}`, { cause: error });
  }
}

/** Every other process as its id, command line, environment, folder and root file system. */
function processes(): string[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  return pids.map(describeProcess).filter((text) => text !== null);
}

function describeProcess(pid: string): string | null {
  try {
    const [command = "", environment = ""] = ["cmdline", "environ"].map((name) => readFileSync(`/proc/${pid}/${name}`, "utf8"));
    const root = readLines(`/proc/${pid}/mountinfo`).find((line) => line.split(" ")[4] === "/") ?? "";
    return [pid, command.replaceAll("\0", " "), environment.replaceAll("\0", " "), readlinkSync(`/proc/${pid}/cwd`), root].join(
      " | ",
    );
  } catch {
    // It ended while being looked at, or is a kernel thread.
    return null;
  }
}

/** Folders of every cgroup hierarchy, down to the level at which an agent has its own. */
function cgroupFolders(): string[] {
  const top = "/sys/fs/cgroup";
  const folders = (path: string) =>
    readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(path, entry.name));
  return folders(top).flatMap((path) => [path, ...folders(path)]);
}

function readLines(path: string): string[] {
  return readFileSync(path, "utf8").split("\n");
}
