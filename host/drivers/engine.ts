import { setTimeout as delay } from "node:timers/promises";
import Docker from "dockerode";
import { DriverError, type DriverState, type SeedFile } from "../driver.ts";
import type { ContainerSettings } from "./container-settings.ts";
import { attempt, isDamagedImage, isNameTaken, withMountPoint } from "./engine-request.ts";
import { setMachineFrozen } from "./home-cgroups.ts";
import type { OwnLimits, PodmanHome } from "./podman-home.ts";
import { tarOf } from "./tar.ts";

const VM_LABEL = "postern.vm";
const ADDRESS_LABEL = "postern.address";
const INTERNET_LABEL = "postern.internet";

/** Between two tries to freeze a guest, milliseconds. */
const FREEZE_PAUSE_MS = 50;
/** Over which a share of processors is counted, microseconds: the kernel's own default. */
const CPU_PERIOD_US = 100_000;
/** Memory and swap together, in proportion to memory: what the engine gives a machine that it makes. */
const SWAP_FACTOR = 2;

/** Most of a guest's memory that files under /run take: systemd's own share. */
const RUN_SHARE = 0.2;
/**
 * What a user's processes are limited to, in place of fewer: the kernel counts those of all guests together, so that one guest's
 * could use up another's. The guest as a whole is limited by its cgroup. Linux has no more pids than this.
 */
const MOST_PIDS = 4_194_304;
/** The container that never runs and is always mounted. */
const ANCHOR = "postern-anchor";

/** Repository of the images that are snapshots; their tags are the snapshots' ids. */
const SNAPSHOTS = "localhost/postern-snapshot";

/**
 * What a guest's root may do beyond a user: run daemons, change owners and users, chroot. Not: raw sockets, the host's
 * network, devices, mounts, modules. AUDIT_WRITE: without it OpenSSH ends every login on kernels with audit.
 */
const CAPABILITIES = [
  "AUDIT_WRITE",
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "NET_BIND_SERVICE",
  "SETFCAP",
  "SETGID",
  "SETPCAP",
  "SETUID",
  "SYS_CHROOT",
];

/** A container that stands for a machine. `new`: made, but it never ran, so its maker was interrupted. */
export interface EngineMachine {
  readonly vmId: string;
  readonly address: string;
  readonly internet: boolean;
  readonly state: DriverState | "new";
}

/** What only a look at one machine tells. */
export interface EngineMachineDetails extends EngineMachine {
  /** Whether a start was interrupted when the guest was made ready to run: the next one goes on from there. */
  readonly halfStarted: boolean;
  /** Whether a stop was interrupted: the guest may run still, and must be stopped before anything else. */
  readonly halfStopped: boolean;
  /** The guest's first process on the host; 0 while it does not run. */
  readonly pid: number;
  /** The engine's own name for it. */
  readonly containerId: string;
  /** Id of the image that the disk began with. */
  readonly imageId: string;
}

/** Limits of a machine: processors may be a fraction. */
export interface EngineLimits {
  readonly cpus?: number;
  readonly memoryBytes?: number;
}

export interface EngineMachineSpec {
  readonly vmId: string;
  readonly address: string;
  readonly internet: boolean;
  readonly image: string;
  readonly limits: EngineLimits;
  readonly files: readonly SeedFile[];
}

/** The Docker-compatible API in the driver's words. Every method throws `DriverError` `engine` when the engine fails. */
export class Engine {
  readonly #docker: Docker;
  readonly #home: PodmanHome;
  readonly #settings: ContainerSettings;
  readonly #limits: OwnLimits | null;

  constructor(home: PodmanHome, settings: ContainerSettings, limits: OwnLimits | null) {
    this.#docker = new Docker({ socketPath: home.socket, timeout: settings.engineRequestMs });
    this.#home = home;
    this.#settings = settings;
    this.#limits = limits;
  }

  async ping(): Promise<void> {
    await this.#docker.ping();
  }

  /**
   * Keeps one disk mounted for as long as the engine lives. Every podman command that ends while no disk is mounted, such as the
   * clean-up after each machine's end, makes the service forget its storage and read it anew; requests at work meanwhile and
   * those after them then write each other's mounts away (podman 4, containers/storage before 1.45: two layer stores
   * behind one lock), and a later start fails.
   */
  async anchorStore(image: string): Promise<void> {
    const mount = () => attempt("mount the anchor", () => this.#ownApi(`containers/${ANCHOR}/mount`, {}), { allow: [404, 500] });
    if ((await mount()) !== null) return;
    await this.remove(ANCHOR);
    const never = { Entrypoint: ["/bin/false"], Cmd: [], HostConfig: { NetworkMode: "none" } };
    await attempt("make the anchor", () => this.#docker.createContainer({ name: ANCHOR, Image: image, ...never }));
    if ((await mount()) === null) throw new DriverError("engine", "the anchor of the store cannot be mounted");
  }

  async list(): Promise<readonly EngineMachine[]> {
    const found = await attempt("list", () => this.#docker.listContainers({ all: true, filters: { label: [VM_LABEL] } }));
    const machines = found.map((container) => machineOf(container.Labels, container.State));
    // Only a closer look tells whether one that waits to run ever ran.
    return Promise.all(machines.map(async (machine) => (machine.state === "new" && (await this.inspect(machine.vmId))) || machine));
  }

  async inspect(vmId: string): Promise<EngineMachineDetails | null> {
    const found = await attempt(`inspect ${vmId}`, () => this.#docker.getContainer(vmId).inspect(), { allow: [404] });
    if (found === null) return null;
    const machine = machineOf(found.Config.Labels, found.State.Status);
    return {
      ...machine,
      // One that ran waits to run again after a start that was interrupted, or after a boot of the host.
      state: machine.state === "new" && Date.parse(found.State.StartedAt) > 0 ? "stopped" : machine.state,
      halfStarted: found.State.Status === "initialized",
      halfStopped: found.State.Status === "stopping",
      pid: found.State.Pid,
      containerId: found.Id,
      imageId: found.Image,
    };
  }

  async create(spec: EngineMachineSpec, nowS: number): Promise<void> {
    const { vmId, address, internet, image, limits, files } = spec;
    const { maxProcesses, maxOpenFiles } = this.#settings;
    const ulimit = (name: string, wanted: number, own: number | undefined) => {
      const value = Math.min(wanted, own ?? wanted);
      return { Name: name, Soft: value, Hard: value };
    };
    const runBytes = Math.floor((limits.memoryBytes ?? this.#settings.memoryBytes) * RUN_SHARE);
    // The library's types do not know CgroupnsMode.
    const hostConfig: Docker.HostConfig & { CgroupnsMode: string } = {
      NetworkMode: "none",
      CgroupParent: this.#home.cgroupParent,
      // Its own view of its own cgroup, in which systemd keeps its services apart.
      CgroupnsMode: "private",
      // systemd mounts these itself where they are missing, and may not.
      Tmpfs: { "/run": `rw,nosuid,nodev,mode=755,size=${runBytes}`, "/run/lock": "rw,nosuid,nodev,noexec,mode=1777,size=5m" },
      CapDrop: ["ALL"],
      CapAdd: CAPABILITIES,
      ...hostLimits(limits),
      PidsLimit: maxProcesses,
      Ulimits: [ulimit("nofile", maxOpenFiles, this.#limits?.openFiles), ulimit("nproc", MOST_PIDS, this.#limits?.processes)],
    };
    const options = {
      name: vmId,
      Image: image,
      Hostname: vmId,
      Entrypoint: ["/usr/local/sbin/guest-init"],
      Cmd: [],
      // What systemd as the first process takes as the wish to end in order (systemd(1), signals).
      StopSignal: "SIGRTMIN+3",
      Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
      Labels: { [VM_LABEL]: vmId, [ADDRESS_LABEL]: address, [INTERNET_LABEL]: String(internet) },
      HostConfig: hostConfig,
    };
    const make = () => attempt(`create ${vmId}`, () => this.#docker.createContainer(options));
    const container = await make().catch(async (error: unknown) => {
      if (!isNameTaken(error)) throw error;
      // An engine that was killed in the middle has kept the disk and no container: inspecting finds nothing, removing does.
      await this.remove(vmId);
      return make();
    });
    await attempt(`seed ${vmId}`, () => container.putArchive(tarOf(files, nowS), { path: "/" }));
  }

  async start(vmId: string): Promise<void> {
    const start = () => attempt(`start ${vmId}`, () => this.#docker.getContainer(vmId).start(), { allow: [304] });
    await withMountPoint(this.#home, start);
  }

  /**
   * Freezes the guest. Tried more than once: the kernel gives up on a guest that is busy forking, as during its boot; and one that an
   * engine froze that was killed before it knew must run for a moment, or the runtime refuses.
   */
  async pause(vmId: string): Promise<void> {
    const until = Date.now() + this.#settings.freezeMs;
    for (;;) {
      try {
        return await attempt(`pause ${vmId}`, () => this.#docker.getContainer(vmId).pause());
      } catch (error) {
        const machine = await this.inspect(vmId);
        if (machine === null || Date.now() > until) throw error;
        // It was at work when it seemed to have failed.
        if (machine.state === "paused") return;
        await setMachineFrozen(this.#home, machine.containerId, false);
        await delay(FREEZE_PAUSE_MS);
      }
    }
  }

  /** Lets a frozen guest run on. One that runs already, since an engine was killed before it knew, is frozen for a moment. */
  async unpause(vmId: string): Promise<void> {
    const unpause = () => attempt(`unpause ${vmId}`, () => this.#docker.getContainer(vmId).unpause());
    try {
      await unpause();
    } catch (error) {
      const machine = await this.inspect(vmId);
      if (machine?.state === "running") return;
      if (machine?.state !== "paused") throw error;
      await setMachineFrozen(this.#home, machine.containerId, true);
      await unpause();
    }
  }

  /** Lets a guest run on that the engine believes to run: an engine that was killed may have frozen it. */
  async thaw(vmId: string): Promise<void> {
    const machine = await this.inspect(vmId);
    if (machine?.state === "running") await setMachineFrozen(this.#home, machine.containerId, false);
  }

  /** Asks the guest to end, and kills it after the grace. */
  async stop(vmId: string): Promise<void> {
    await attempt(`stop ${vmId}`, () => this.#docker.getContainer(vmId).stop({ t: this.#settings.stopGraceS }), { allow: [304] });
  }

  /** Changes the limits of a running machine; the next start forgets them. */
  async limit(vmId: string, { cpus, memoryBytes }: EngineLimits): Promise<void> {
    const period = CPU_PERIOD_US;
    const resources = {
      ...(cpus === undefined ? {} : { cpu: { period, quota: Math.round(cpus * period) } }),
      ...(memoryBytes === undefined ? {} : { memory: { limit: memoryBytes, swap: memoryBytes * SWAP_FACTOR } }),
    };
    await attempt(`limit ${vmId}`, () => this.#ownApi(`containers/${vmId}/update`, resources));
  }

  /** Name of a snapshot's image, or null when there is none. What an engine that was killed has left half made is removed. */
  async snapshotImage(snapshotId: string): Promise<string | null> {
    const name = `${SNAPSHOTS}:${snapshotId}`;
    const image = this.#docker.getImage(name);
    try {
      const found = await attempt(`look for ${name}`, () => image.inspect(), { allow: [404] });
      return found === null ? null : name;
    } catch (error) {
      if (!isDamagedImage(error)) throw error;
      await attempt(`remove ${name}`, () => image.remove({ force: true }), { allow: [404] });
      return null;
    }
  }

  /** Keeps the disk of a machine that is held still as an image. */
  async capture(vmId: string, snapshotId: string): Promise<void> {
    const options = { repo: SNAPSHOTS, tag: snapshotId, pause: false };
    await attempt(`capture ${vmId}`, () => this.#docker.getContainer(vmId).commit(options));
  }

  /** Removes a snapshot's image, or only its name while machines stand on it. */
  async removeSnapshot(snapshotId: string): Promise<void> {
    const name = `${SNAPSHOTS}:${snapshotId}`;
    const removed = await attempt(`remove ${name}`, () => this.#docker.getImage(name).remove(), { allow: [404, 409] });
    if (removed !== null || (await this.snapshotImage(snapshotId)) === null) return;
    await attempt(`unname ${name}`, () => this.#ownApi(`images/${encodeURIComponent(name)}/untag`, {}), { allow: [404] });
  }

  /** Removes an image that has lost its name, unless a machine or another image stands on it. */
  async removeNamelessImage(imageId: string): Promise<void> {
    const found = await attempt(`inspect ${imageId}`, () => this.#docker.getImage(imageId).inspect(), { allow: [404] });
    if (found === null || (found.RepoTags ?? []).length > 0) return;
    await attempt(`remove ${imageId}`, () => this.#docker.getImage(imageId).remove(), { allow: [404, 409] });
  }

  /** podman's own API, for what its Docker-compatible one lacks: changing limits, and taking a name from an image in use. */
  #ownApi(path: string, body: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const statusCodes = { 200: true, 201: true, 404: "not found", 500: "server error" };
      const options = { path: `/v4.0.0/libpod/${path}`, method: "POST", statusCodes, options: body };
      this.#docker.modem.dial(options, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }

  /** Kills and removes it with its disk; nothing to remove is success. */
  async remove(vmId: string): Promise<void> {
    await attempt(`remove ${vmId}`, () => this.#docker.getContainer(vmId).remove({ force: true, v: true }), { allow: [404] });
  }
}

function machineOf(labels: Readonly<Record<string, string>>, status: string): EngineMachine {
  return {
    vmId: labels[VM_LABEL] ?? "",
    address: labels[ADDRESS_LABEL] ?? "",
    internet: labels[INTERNET_LABEL] !== "false",
    state: stateOf(status),
  };
}

function hostLimits({ cpus, memoryBytes }: EngineLimits): { NanoCpus?: number; Memory?: number } {
  return {
    ...(cpus === undefined ? {} : { NanoCpus: Math.round(cpus * 1e9) }),
    ...(memoryBytes === undefined ? {} : { Memory: memoryBytes }),
  };
}

function stateOf(status: string): EngineMachine["state"] {
  switch (status) {
    case "running":
    case "paused":
      return status;
    case "stopping":
      return "running";
    case "created":
    case "configured":
    case "initialized":
      return "new";
    default:
      return "stopped";
  }
}
