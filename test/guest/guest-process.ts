import { readdir, readFile } from "node:fs/promises";
import { type CommandResult, run } from "./guest-world.ts";

/** The guest's first process, found from outside: its parent is the monitor that was given the VM's name. */
export async function guestPid(vmId: string): Promise<number> {
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const argv = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
    if (!argv[0]?.endsWith("conmon") || argv[argv.indexOf("-n") + 1] !== vmId) continue;
    return Number((await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim().split(" ")[0]);
  }
  throw new Error(`no process of ${vmId}`);
}

/** Runs a command as the guest's root in all of its namespaces, without its network or sshd having to work. */
export async function inGuest(vmId: string, command: string): Promise<CommandResult> {
  return run("nsenter", ["--target", String(await guestPid(vmId)), "--all", "bash", "-c", command]);
}
