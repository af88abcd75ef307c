import { spawn } from "node:child_process";
import { DriverError } from "../../driver.ts";

const STDERR_KEPT = 1_000;

/**
 * Runs the operator's command that wakes a machine, without a shell, and waits for its end. Throws `DriverError` `wake` when
 * it fails or takes longer than `timeoutMs`; it is killed then.
 */
export function runWakeCommand(argv: readonly string[], timeoutMs: number): Promise<void> {
  const [program = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"], timeout: timeoutMs, killSignal: "SIGKILL" });
    let complaint = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      complaint = (complaint + text).slice(-STDERR_KEPT);
    });
    const fail = (why: string) => reject(new DriverError("wake", `the wake command ${program} ${why}`));
    child.once("error", (error) => fail(`could not be run: ${error.message}`));
    child.once("exit", (status, signal) => {
      // What it left in the background may hold the pipe open for long.
      child.stderr.destroy();
      if (status === 0) resolve();
      else if (signal === "SIGKILL") fail(`did not end within ${timeoutMs} ms`);
      else fail(`ended with ${signal ?? `status ${status}`}: ${complaint.trim()}`);
    });
  });
}
