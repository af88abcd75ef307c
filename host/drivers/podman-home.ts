import { mkdir, readFile, realpath, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { agentTag } from "../network/addressing.ts";
import type { ContainerSettings } from "./container-settings.ts";
import { guestSeccomp } from "./seccomp.ts";

/**
 * Where one host agent's podman keeps everything, so that two agents on a machine never meet. Disks are under the state
 * directory. What must not outlive a boot is under `/run`, where paths are short: podman refuses a run root of over 50
 * characters and a socket's path holds 107.
 */
export interface PodmanHome {
  readonly tag: string;
  readonly diskDir: string;
  readonly runDir: string;
  readonly socket: string;
  readonly serviceLog: string;
  readonly cgroupParent: string;
  /** Environment in which any podman command acts on this home. */
  readonly env: NodeJS.ProcessEnv;
}

/** Says where an agent's podman lives. Makes the state directory, and nothing else. */
export async function podmanHome(stateDir: string): Promise<PodmanHome> {
  await mkdir(stateDir, { recursive: true });
  const tag = agentTag(await realpath(stateDir));
  const runDir = `/run/postern/${tag}`;
  return {
    tag,
    diskDir: join(await realpath(stateDir), "containers"),
    runDir,
    socket: join(runDir, "podman.sock"),
    serviceLog: join(runDir, "podman.log"),
    cgroupParent: `/postern-${tag}`,
    env: {
      PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin",
      CONTAINERS_CONF: join(runDir, "containers.conf"),
      CONTAINERS_STORAGE_CONF: join(runDir, "storage.conf"),
    },
  };
}

/** Writes podman's configuration. */
export async function writePodmanConfig(home: PodmanHome, imageStore: string, settings: ContainerSettings): Promise<void> {
  await mkdir(home.runDir, { recursive: true, mode: 0o700 });
  await mkdir(home.diskDir, { recursive: true, mode: 0o700 });
  const quoted = JSON.stringify;
  await writeFile(
    join(home.runDir, "storage.conf"),
    `[storage]
driver = "overlay"
graphroot = ${quoted(join(home.diskDir, "storage"))}
runroot = ${quoted(join(home.runDir, "run"))}
[storage.options]
additionalimagestores = [${quoted(imageStore)}]
`,
  );
  const hooks = join(home.runDir, "hooks");
  await mkdir(hooks, { recursive: true, mode: 0o700 });
  // The text itself, not its path: no engine then needs to find, pass or run a file of ours.
  const hook = async (name: string, stage: string) => {
    const script = await readFile(join(import.meta.dirname, `${name}.sh`), "utf8");
    const command = { path: "/bin/bash", args: ["bash", "-c", script] };
    await writeFile(
      join(hooks, `${name}.json`),
      JSON.stringify({ version: "1.0.0", hook: command, when: { always: true }, stages: [stage] }),
    );
  };
  await hook("delegate-cgroup", "createRuntime");
  await hook("own-cgroup", "createRuntime");
  const seccomp = join(home.runDir, "seccomp.json");
  await writeFile(seccomp, await guestSeccomp());
  // runc: the one runtime that takes hybrid cgroups too. File locks: podman's shared-memory ones are one set a machine.
  await writeFile(
    join(home.runDir, "containers.conf"),
    `[containers]
no_hosts = true
seccomp_profile = ${quoted(seccomp)}
log_driver = "k8s-file"
log_size_max = ${settings.guestLogBytes}
default_sysctls = ["net.ipv4.ping_group_range=0 65535"]
[engine]
hooks_dir = [${quoted(hooks)}]
tmp_dir = ${quoted(join(home.runDir, "tmp"))}
static_dir = ${quoted(join(home.diskDir, "static"))}
volume_path = ${quoted(join(home.diskDir, "volumes"))}
lock_type = "file"
events_logger = "none"
cgroup_manager = "cgroupfs"
runtime = "runc"
[network]
network_config_dir = ${quoted(join(home.diskDir, "networks"))}
`,
  );
}
