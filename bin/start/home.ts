import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";

const devJson = z.object({ apiUrl: z.string(), apiKey: z.string() });

/** Where one local system keeps everything: secrets, storage, logs, guests. `POSTERN_HOME`, default `.postern`. */
export interface Home {
  readonly root: string;
  readonly edge: string;
  readonly edgeStorage: string;
  readonly edgeBundle: string;
  readonly hostState: string;
  readonly forwarderState: string;
  readonly logs: string;
  readonly operatorKey: string;
  readonly serviceKey: string;
  readonly macKeys: string;
  readonly demo: string;
  readonly devJson: string;
  readonly knownHosts: string;
  readonly sshConfig: string;
  readonly pid: string;
}

/** The layout under a folder; nothing is made yet. */
export function homeAt(folder: string): Home {
  const root = resolve(folder);
  return {
    root,
    edge: join(root, "edge"),
    edgeStorage: join(root, "edge", "storage"),
    edgeBundle: join(root, "edge", "bundle"),
    hostState: join(root, "host"),
    forwarderState: join(root, "forwarder"),
    logs: join(root, "logs"),
    operatorKey: join(root, "operator.key"),
    serviceKey: join(root, "service.key"),
    macKeys: join(root, "mac.keys"),
    demo: join(root, "demo.json"),
    devJson: join(root, "dev.json"),
    knownHosts: join(root, "known_hosts"),
    sshConfig: join(root, "ssh_config"),
    pid: join(root, "postern.pid"),
  };
}

/** The home that the environment names. */
export function homeFromEnvironment(env: NodeJS.ProcessEnv): Home {
  return homeAt(env.POSTERN_HOME || ".postern");
}

/**
 * Makes the folders, readable by their owner only: they hold keys. Each by itself, since podman lets everybody pass through those
 * above the disks of guests who have users of their own.
 */
export function makeHome(home: Home): void {
  const folders = [home.root, home.edge, home.edgeStorage, home.edgeBundle, home.hostState, home.forwarderState, home.logs];
  for (const folder of folders) {
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, 0o700);
  }
}

/** Writes a file that only its owner may read, in one step: a reader sees the old text or the new. */
export function writePrivateFile(path: string, text: string): void {
  const next = `${path}.next`;
  writeFileSync(next, text, { mode: 0o600 });
  renameSync(next, path);
}

/** The text of a private file, made by `make` the first time. */
export function keepPrivateFile(path: string, make: () => string): string {
  if (!existsSync(path)) writePrivateFile(path, `${make()}\n`);
  return readFileSync(path, "utf8").trim();
}

/** What a running system wrote into its `dev.json`. Throws when none runs, and says that `otherwise` is what else can be done. */
export function readDevJson(home: Home, otherwise: string): { readonly apiUrl: string; readonly apiKey: string } {
  if (!existsSync(home.devJson)) throw new Error(`no system runs from ${home.root}: start it, or ${otherwise}`);
  return devJson.parse(JSON.parse(readFileSync(home.devJson, "utf8")));
}

/** The process that runs this home now, or null. A pid left by a crash and taken by another program does not count. */
export function runningPid(home: Home): number | null {
  if (!existsSync(home.pid)) return null;
  const [pid = "", startTime = ""] = readFileSync(home.pid, "utf8").trim().split(" ");
  return processStartTime(pid) === startTime ? Number(pid) : null;
}

/** Marks the home as run by this process. Throws when another one runs it. */
export function claimHome(home: Home): void {
  const running = runningPid(home);
  if (running !== null) {
    throw new Error(
      `Postern already runs from ${home.root} (process ${running}). Stop it, or set POSTERN_HOME, PORT and SSH_PORT.`,
    );
  }
  writePrivateFile(home.pid, `${process.pid} ${processStartTime(String(process.pid))}\n`);
}

/** Takes back what `claimHome` and readiness wrote. */
export function releaseHome(home: Home): void {
  rmSync(home.devJson, { force: true });
  rmSync(home.pid, { force: true });
}

function processStartTime(pid: string): string | null {
  try {
    // proc(5): field 22 is the start time; the command name before it may hold spaces and parentheses.
    const stat = readFileSync(`/proc/${Number(pid)}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}
