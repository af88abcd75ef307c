import { spawn } from "node:child_process";
import { messageOf } from "../../service/message-of.ts";
import { DriverError } from "../driver.ts";

export interface CommandOptions {
  /** Written to the command's standard input. */
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** True where a second run does no harm whatever the first one did: a run that a signal ended is then run again. */
  readonly repeatable?: boolean;
  /** Longest that it may take, milliseconds; then it is killed, which is a failure. Absent: any time. */
  readonly timeoutMs?: number;
  /** Called with each whole line of standard error as it comes. */
  readonly onStderrLine?: (line: string) => void;
}

const STDERR_KEPT = 4_000;
/** Runs of a repeatable command, the first included. */
const MOST_RUNS = 3;

interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command and answers its standard output. Throws `DriverError` with the given code when it fails. */
export async function runCommand(
  code: DriverError["code"],
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const named = `${command} ${args[0] ?? ""}`;
  for (let runs = 1; ; runs += 1) {
    const { status, signal, stdout, stderr } = await runOnce(command, args, options).catch((error: unknown) => {
      throw new DriverError(code, `${named}: ${messageOf(error)}`, { cause: error });
    });
    if (status === 0) return stdout;
    if (signal !== null && options.repeatable === true && runs < MOST_RUNS) continue;
    throw new DriverError(code, `${named}: ${signal ?? `exit ${status}`}: ${stderr.trim()}`);
  }
}

/** Rejects when the command cannot be run at all. */
function runOnce(command: string, args: readonly string[], options: CommandOptions): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const { env = process.env, timeoutMs } = options;
    const limit = timeoutMs === undefined ? {} : { timeout: timeoutMs, killSignal: "SIGKILL" as const };
    const child = spawn(command, args, { env, stdio: ["pipe", "pipe", "pipe"], ...limit });
    let stdout = "";
    let stderr = "";
    let partial = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr = (stderr + text).slice(-STDERR_KEPT);
      const lines = (partial + text).split("\n");
      partial = lines.pop() ?? "";
      for (const line of lines) options.onStderrLine?.(line);
    });
    child.on("error", reject);
    child.on("close", (status, signal) => resolve({ status, signal, stdout, stderr }));
    // A command that ends without reading its input is judged by its exit status.
    child.stdin.on("error", () => undefined);
    child.stdin.end(options.input ?? "");
  });
}
