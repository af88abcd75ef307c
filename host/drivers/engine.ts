import Docker from "dockerode";
import { DriverError, type DriverState, type SeedFile } from "../driver.ts";
import type { ContainerSettings } from "./container-settings.ts";
import type { OwnLimits, PodmanHome } from "./podman-home.ts";
import { tarOf } from "./tar.ts";

const VM_LABEL = "postern.vm";
const ADDRESS_LABEL = "postern.address";

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
  readonly state: DriverState | "new";
}

export interface EngineMachineSpec {
  readonly vmId: string;
  readonly address: string;
  readonly image: string;
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

  async list(): Promise<readonly EngineMachine[]> {
    const found = await attempt("list", () => this.#docker.listContainers({ all: true, filters: { label: [VM_LABEL] } }));
    return found.map((container) => machineOf(container.Labels, container.State));
  }

  async inspect(vmId: string): Promise<(EngineMachine & { readonly pid: number }) | null> {
    const found = await attempt(`inspect ${vmId}`, () => this.#docker.getContainer(vmId).inspect(), { allow: [404] });
    return found === null ? null : { ...machineOf(found.Config.Labels, found.State.Status), pid: found.State.Pid };
  }

  async create(spec: EngineMachineSpec, nowS: number): Promise<void> {
    const { vmId, address, image } = spec;
    const { memoryBytes, maxProcesses, maxOpenFiles } = this.#settings;
    const ulimit = (name: string, wanted: number, own: number | undefined) => {
      const value = Math.min(wanted, own ?? wanted);
      return { Name: name, Soft: value, Hard: value };
    };
    await attempt(`create ${vmId}`, async () => {
      const container = await this.#docker.createContainer({
        name: vmId,
        Image: image,
        Hostname: vmId,
        Entrypoint: ["/usr/bin/tini", "--"],
        Cmd: ["/usr/local/sbin/guest-init"],
        Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
        Labels: { [VM_LABEL]: vmId, [ADDRESS_LABEL]: address },
        HostConfig: {
          NetworkMode: "none",
          CgroupParent: this.#home.cgroupParent,
          CapDrop: ["ALL"],
          CapAdd: CAPABILITIES,
          Memory: memoryBytes,
          PidsLimit: maxProcesses,
          Ulimits: [
            ulimit("nofile", maxOpenFiles, this.#limits?.openFiles),
            ulimit("nproc", maxProcesses, this.#limits?.processes),
          ],
        },
      });
      await container.putArchive(tarOf(spec.files, nowS), { path: "/" });
    });
  }

  async start(vmId: string): Promise<void> {
    await attempt(`start ${vmId}`, () => this.#docker.getContainer(vmId).start(), { allow: [304] });
  }

  async pause(vmId: string): Promise<void> {
    await attempt(`pause ${vmId}`, () => this.#docker.getContainer(vmId).pause());
  }

  async unpause(vmId: string): Promise<void> {
    await attempt(`unpause ${vmId}`, () => this.#docker.getContainer(vmId).unpause());
  }

  /** Asks the guest to end, and kills it after the grace. */
  async stop(vmId: string): Promise<void> {
    await attempt(`stop ${vmId}`, () => this.#docker.getContainer(vmId).stop({ t: this.#settings.stopGraceS }), { allow: [304] });
  }

  /** Kills and removes it with its disk; nothing to remove is success. */
  async remove(vmId: string): Promise<void> {
    await attempt(`remove ${vmId}`, () => this.#docker.getContainer(vmId).remove({ force: true, v: true }), { allow: [404] });
  }
}

function machineOf(labels: Readonly<Record<string, string>>, status: string): EngineMachine {
  return { vmId: labels[VM_LABEL] ?? "", address: labels[ADDRESS_LABEL] ?? "", state: stateOf(status) };
}

function stateOf(status: string): EngineMachine["state"] {
  switch (status) {
    case "running":
    case "paused":
      return status;
    case "created":
    case "configured":
    case "initialized":
      return "new";
    default:
      return "stopped";
  }
}

interface Tolerance {
  /** HTTP statuses that mean there was nothing to do or nothing there: the answer is then null. */
  readonly allow: readonly number[];
}

async function attempt<T>(what: string, request: () => Promise<T>): Promise<T>;
async function attempt<T>(what: string, request: () => Promise<T>, tolerance: Tolerance): Promise<T | null>;
async function attempt<T>(what: string, request: () => Promise<T>, tolerance?: Tolerance): Promise<T | null> {
  try {
    return await request();
  } catch (error) {
    const status = error instanceof Error && "statusCode" in error ? error.statusCode : undefined;
    if (typeof status === "number" && tolerance?.allow.includes(status)) return null;
    throw new DriverError("engine", `${what}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
