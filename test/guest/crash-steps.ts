import { AsyncLocalStorage } from "node:async_hooks";
import childProcess from "node:child_process";
import http from "node:http";
import { syncBuiltinESMExports } from "node:module";
import { createServer } from "node:net";

/** How far one operation has come; a step is a request to the engine or a command. */
interface Walk {
  /** Where it is to be held. */
  readonly at: number;
  /** `before`: the step is not made any more; `amid`: it is made, and nobody waits for its end. */
  readonly mode: "before" | "amid";
  readonly reached: () => void;
  steps: number;
}

const walks = new AsyncLocalStorage<Walk>();

/** Counts one step of the operation at hand. True: it must not be made. */
function mayNotStep(): boolean {
  const walk = walks.getStore();
  if (walk === undefined) return false;
  walk.steps += 1;
  if (walk.steps === walk.at) setImmediate(walk.reached);
  return walk.steps > walk.at || (walk.steps === walk.at && walk.mode === "before");
}

/**
 * Lets operations be held at a step from now on, in the whole process. `silentSocket`: path for a unix socket that accepts and
 * never answers, to which requests go that must not be made.
 */
export async function holdSteps(silentSocket: string): Promise<void> {
  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(silentSocket, resolve));
  const { spawn } = childProcess;
  const { request } = http;
  Object.assign(childProcess, {
    spawn: (command: string, args: readonly string[], options: childProcess.SpawnOptions) =>
      mayNotStep() ? spawn("setpriv", ["--pdeathsig", "KILL", "sleep", "infinity"], options) : spawn(command, args, options),
  });
  Object.assign(http, {
    request: (options: http.RequestOptions, callback: (answer: http.IncomingMessage) => void) =>
      request(mayNotStep() ? { ...options, socketPath: silentSocket } : options, callback),
  });
  syncBuiltinESMExports();
}

/** Runs an operation up to a step, where it is held for good. Resolves when it is there (`true`) or has ended before (`false`). */
export function walkTo(at: number, mode: Walk["mode"], operation: () => Promise<unknown>): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const walk: Walk = { at, mode, reached: () => resolve(true), steps: 0 };
    walks.run(walk, operation).then(() => resolve(false), reject);
  });
}
