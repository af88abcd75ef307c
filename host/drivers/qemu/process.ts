import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { messageOf } from "../../../service/message-of.ts";
import { DriverError } from "../../driver.ts";
import { Qmp } from "./qmp.ts";

const POLL_MS = 15;

/**
 * Starts a QEMU that outlives this process; answers once it has made all its devices and takes orders. Throws `DriverError` `engine`
 * with QEMU's own words. Not by `-daemonize`: a QEMU that may not make processes cannot do that either.
 */
export async function startQemu(args: readonly string[], runDir: string, timeoutMs: number): Promise<void> {
  const log = await open(join(runDir, "words"), "w", 0o600);
  const child = spawn("qemu-system-x86_64", args, { detached: true, stdio: ["ignore", log.fd, log.fd], cwd: "/" });
  let ended: string | null = null;
  child.once("error", (error) => {
    ended = error.message;
  });
  child.once("exit", (status, signal) => {
    ended = signal ?? `exit status ${status}`;
  });
  child.unref();
  await log.close();
  const socket = join(runDir, "qmp");
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    // Its name is there a moment before it takes connections.
    const failed = existsSync(socket) ? await answersAt(socket, timeoutMs) : "it made no socket";
    if (failed === null) return;
    if (ended !== null) {
      throw new DriverError("engine", `qemu-system-x86_64 ended (${ended}): ${await lastWords(runDir)}`);
    }
    if (performance.now() > deadline) {
      const words = await lastWords(runDir);
      throw new DriverError("engine", `qemu-system-x86_64 did not come up in ${timeoutMs} ms: ${failed}: ${words}`);
    }
    await delay(POLL_MS);
  }
}

/** Null when a QEMU's main loop answers, which begins when everything is there; else why not. */
async function answersAt(socket: string, timeoutMs: number): Promise<string | null> {
  try {
    (await Qmp.open(socket, timeoutMs)).close();
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

/** What a QEMU has complained of last. */
export async function lastWords(runDir: string): Promise<string> {
  return (await readFile(join(runDir, "words"), "utf8").catch(() => "")).trim().slice(-1_000);
}

/**
 * The process id of the QEMU whose pid file lies in `runDir`, or null when there is none, not even one that still ends. A pid may have
 * become somebody else's, so its command line must name the folder.
 */
export async function qemuPid(runDir: string): Promise<number | null> {
  const { pid, words } = await processOf(runDir);
  if (words.length > 0) return words.includes(pidFile(runDir)) ? pid : null;
  // It has lost its memory but may still hold its disk, as long as one of its threads is not gone.
  return (await isEnding(pid)) ? pid : null;
}

/** Whether a QEMU runs there; one that was killed and is about to be gone does not. */
export async function qemuRuns(runDir: string): Promise<boolean> {
  return (await processOf(runDir)).words.includes(pidFile(runDir));
}

const pidFile = (runDir: string) => join(runDir, "pid");

/** The process that the pid file names, 0 for none, and the words of its command line; none when it ends or has ended. */
async function processOf(runDir: string): Promise<{ readonly pid: number; readonly words: readonly string[] }> {
  const pid = Number((await readFile(pidFile(runDir), "utf8").catch(() => "")).trim());
  if (!Number.isInteger(pid) || pid <= 0) return { pid: 0, words: [] };
  const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return { pid, words: commandLine === "" ? [] : commandLine.split("\0") };
}

/** Whether a process without memory is a QEMU whose threads still end (proc_pid_stat(5): name, then state). */
async function isEnding(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  const [, name = "", state = ""] = /^\d+ \((.*)\) (\S)/s.exec(stat) ?? [];
  if (!name.startsWith("qemu-system")) return false;
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  return !(/[ZX]/.test(state) && threads.length <= 1);
}

/** Waits until the QEMU has ended; whether it did in time. */
export async function qemuEnds(runDir: string, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while ((await qemuPid(runDir)) !== null) {
    if (performance.now() > deadline) return false;
    await delay(POLL_MS);
  }
  return true;
}

/** SIGKILL takes effect at once unless the kernel is stuck in a device; then waiting longer does not help. */
const KILL_WAIT_MS = 5_000;

/** Ends a QEMU at once, if it runs, as if the machine's power was cut. Throws `DriverError` `engine` when that has no effect. */
export async function killQemu(runDir: string): Promise<void> {
  const pid = await qemuPid(runDir);
  if (pid === null) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended a moment ago.
  }
  if (!(await qemuEnds(runDir, KILL_WAIT_MS))) throw new DriverError("engine", `the QEMU ${pid} cannot be killed`);
}
