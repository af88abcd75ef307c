import { type ChildProcess, spawn } from "node:child_process";

export interface Finished {
  /** Exit code, or null when a signal ended it. */
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly done: Promise<Finished>;
  stdout(): string;
  stderr(): string;
}

export interface CommandOptions {
  /** What the command reads; then end of file. `"open"` keeps its input open. */
  readonly input?: Buffer | string | "open";
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts a real command with its output captured. */
export function start(command: string, args: readonly string[], options: CommandOptions = {}): Running {
  const child = spawn(command, args, { env: { ...process.env, ...options.env }, stdio: "pipe" });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  // A command that ends before it has read everything closes the pipe.
  child.stdin.on("error", () => undefined);
  if (options.input !== "open") child.stdin.end(options.input ?? "");
  const done = new Promise<Finished>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() }));
  });
  return { child, done, stdout: () => Buffer.concat(stdout).toString(), stderr: () => Buffer.concat(stderr).toString() };
}

export function run(command: string, args: readonly string[], options?: CommandOptions): Promise<Finished> {
  return start(command, args, options).done;
}

/** Waits until a condition holds; fails with `what` after `limitMs`. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, limitMs = 10_000): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
