import { spawn } from "node:child_process";
import { DriverError } from "../driver.ts";

export interface CommandOptions {
  /** Written to the command's standard input. */
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Called with each whole line of standard error as it comes. */
  readonly onStderrLine?: (line: string) => void;
}

const STDERR_KEPT = 4_000;

/** Runs a command and answers its standard output. Throws `DriverError` with the given code when it fails. */
export function runCommand(
  code: DriverError["code"],
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env: options.env ?? process.env, stdio: ["pipe", "pipe", "pipe"] });
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
    const fail = (reason: string, cause?: unknown) =>
      reject(new DriverError(code, `${command} ${args[0] ?? ""}: ${reason}`, { cause }));
    child.on("error", (error) => fail(error.message, error));
    child.on("close", (status, signal) => {
      if (status === 0) resolve(stdout);
      else fail(`${signal ?? `exit ${status}`}: ${stderr.trim()}`);
    });
    // A command that ends without reading its input is judged by its exit status.
    child.stdin.on("error", () => undefined);
    child.stdin.end(options.input ?? "");
  });
}
