import { AsyncLocalStorage } from "node:async_hooks";
import childProcess from "node:child_process";
import fs from "node:fs";
import fsPromises from "node:fs/promises";
import http from "node:http";
import { syncBuiltinESMExports } from "node:module";
import { Socket } from "node:net";
import { basename } from "node:path";

/**
 * What becomes of an operation's step. `before`: it is not made any more; `amid`: it is made, and nothing after it; `pass`: it is made
 * like every other.
 */
export type StepMode = "before" | "amid" | "pass";

/** One operation on its way. */
interface Walk {
  readonly names: string[];
  /** The step that matters, counted from 1. */
  readonly at: number;
  readonly mode: StepMode;
  /** Called at that step, before it is made. */
  readonly reached: () => void;
}

const walks = new AsyncLocalStorage<Walk>();

/** Requests of QEMU's monitor that change nothing, and are made as often as time passes. */
const ONLY_LOOKS = /^(query-.*|qmp_capabilities)$/;
/** Said when the operation is over already: nobody waits for it. */
const AFTERTHOUGHT = "wake";

/** Counts one step of the operation at hand. True: it must not be made. */
function mayNotStep(name: string): boolean {
  const walk = walks.getStore();
  if (walk === undefined) return false;
  walk.names.push(name);
  const count = walk.names.length;
  if (count === walk.at) walk.reached();
  return walk.mode !== "pass" && (count > walk.at || (count === walk.at && walk.mode === "before"));
}

const never = () => new Promise<never>(() => undefined);

/** A step that cannot be held: the process dies instead of it, or right after it. */
function syncStep<T>(name: string, make: () => T): T {
  const walk = walks.getStore();
  if (mayNotStep(name)) process.kill(process.pid, "SIGKILL");
  const made = make();
  if (walk?.mode === "amid" && walk.names.length === walk.at) process.kill(process.pid, "SIGKILL");
  return made;
}

/**
 * From now on the steps of operations have names and can be stopped at, in the whole process: commands, requests to an engine (which
 * can only be passed), to QEMU's monitor and to guests, and changes of files. `id`: what in a file's name is the id of a machine or snapshot.
 */
export function nameSteps(id: RegExp): void {
  const { spawn } = childProcess;
  const { rename, rm, writeFile, open } = fsPromises;
  const { renameSync, rmSync } = fs;
  const { write } = Socket.prototype;
  const kill = process.kill.bind(process);
  const file = (path: unknown) => basename(String(path)).replace(id, "ID");
  Object.assign(childProcess, {
    spawn: (command: string, args: readonly string[], options: childProcess.SpawnOptions) =>
      mayNotStep(command) ? spawn("setpriv", ["--pdeathsig", "KILL", "sleep", "infinity"], options) : spawn(command, args, options),
  });
  const { request } = http;
  Object.assign(http, {
    request: (options: http.RequestOptions, callback: (answer: http.IncomingMessage) => void) => {
      mayNotStep(`${options.method} ${options.path}`);
      return request(options, callback);
    },
  });
  Object.assign(fsPromises, {
    rename: (from: string, to: string) => (mayNotStep(`rename to ${file(to)}`) ? never() : rename(from, to)),
    // Making sure that nothing is there is no step where nothing is.
    rm: (path: string, options: fs.RmOptions) =>
      fs.existsSync(path) && mayNotStep(`rm ${file(path)}`) ? never() : rm(path, options),
    writeFile: (...args: Parameters<typeof writeFile>) => (mayNotStep(`write ${file(args[0])}`) ? never() : writeFile(...args)),
    open: (path: string, flags: string, mode: number) =>
      flags === "r+" && mayNotStep(`write ${file(path)}`) ? never() : open(path, flags, mode),
  });
  Object.assign(fs, {
    renameSync: (from: string, to: string) => syncStep(`rename to ${file(to)}`, () => renameSync(from, to)),
    rmSync: (path: string, options: fs.RmOptions) =>
      fs.existsSync(path) ? syncStep(`rm ${file(path)}`, () => rmSync(path, options)) : undefined,
  });
  Object.assign(process, {
    kill: (pid: number, signal: NodeJS.Signals) =>
      pid === process.pid ? kill(pid, signal) : syncStep("kill", () => kill(pid, signal)),
  });
  Object.assign(Socket.prototype, {
    write(this: Socket, ...args: Parameters<typeof write>) {
      const name = requestIn(args[0]);
      return name !== null && mayNotStep(name) ? true : write.apply(this, args);
    },
  });
  syncBuiltinESMExports();
}

/** What is asked of QEMU or a guest, or null for other bytes. */
function requestIn(bytes: unknown): string | null {
  if (typeof bytes !== "string") return null;
  const command = /^\{"execute":"([^"]+)"/.exec(bytes)?.[1];
  if (command !== undefined) return ONLY_LOOKS.test(command) ? null : `qmp ${command}`;
  const verb = /^\n\d+ (adopt|wake|sync|off)\b/.exec(bytes)?.[1];
  return verb === undefined || verb === AFTERTHOUGHT ? null : `guest ${verb}`;
}

/** Runs an operation to its end and names its steps. */
export async function stepsOf(operation: () => Promise<unknown>): Promise<readonly string[]> {
  const walk: Walk = { names: [], at: 0, mode: "pass", reached: () => undefined };
  await walks.run(walk, operation);
  return walk.names;
}

/** Runs an operation up to a step, where it is held for good. Resolves when it is there (`true`) or has ended before (`false`). */
export function walkTo(at: number, mode: "before" | "amid", operation: () => Promise<unknown>): Promise<boolean> {
  return new Promise((resolve, reject) => {
    walks.run({ names: [], at, mode, reached: () => resolve(true) }, operation).then(() => resolve(false), reject);
  });
}

/** Runs an operation to its end, with something done just before one of its steps. Rejects as the operation does. */
export function meetAt(at: number, meet: () => void, operation: () => Promise<unknown>): Promise<unknown> {
  return walks.run({ names: [], at, mode: "pass", reached: meet }, operation);
}
