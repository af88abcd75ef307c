import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import { z } from "zod";
import { DriverError, type DriverState } from "../driver.ts";
import type { ContainerSettings } from "./container-settings.ts";
import { engineClient } from "./engine-client.ts";
import { disk, EngineImages } from "./engine-images.ts";
import { attempt, despiteLostMonitor, isNameTaken, ownApi, startDespiteLeftovers } from "./engine-request.ts";
import { setMachineFrozen } from "./home-cgroups.ts";
import { type IdRange, idRangeFrom } from "./id-ranges.ts";
import { reportEnd } from "./lost-monitor.ts";
import {
  ADDRESS_LABEL,
  containerOf,
  type EngineLimits,
  type EngineMachineSpec,
  IDS_LABEL,
  INTERNET_LABEL,
  probeOf,
  resourceLimits,
  VM_LABEL,
} from "./machine-spec.ts";
import type { OwnLimits } from "./own-limits.ts";
import type { PodmanHome } from "./podman-home.ts";
import { tarOf } from "./tar.ts";

/** Between two tries to freeze a guest, milliseconds. */
const FREEZE_PAUSE_MS = 50;
/** The container that never runs and is always mounted. */
const ANCHOR = "postern-anchor";
/** The container that shows whether guests may have ids of their own. */
const PROBE = "postern-probe";

/** What the engine says of a guest that it has not been told the end of. */
const BELIEVED_ALIVE = ["running", "paused", "stopping"];

/**
 * A container that stands for a machine. `new`: made, but it never ran, so its maker was interrupted. `going`: about to be removed, or
 * left so by an engine that was killed; the rest of it is to be removed too.
 */
export interface EngineMachine {
  readonly vmId: string;
  readonly address: string;
  readonly internet: boolean;
  /** The guest's own ids; null: the host's. */
  readonly ids: IdRange | null;
  readonly state: DriverState | "new" | "going";
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

/** The Docker-compatible API in the driver's words. Every method throws `DriverError` `engine` when the engine fails. */
export class Engine {
  readonly images: EngineImages;
  readonly #docker: Docker;
  readonly #home: PodmanHome;
  readonly #settings: ContainerSettings;
  readonly #limits: OwnLimits;

  constructor(home: PodmanHome, settings: ContainerSettings, limits: OwnLimits) {
    this.#docker = engineClient(home.socket, settings.engineRequestMs);
    this.#home = home;
    this.#settings = settings;
    this.#limits = limits;
    const patient = engineClient(home.socket, settings.captureMs);
    this.images = new EngineImages({ docker: this.#docker, patient, home, settings });
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
    const mount = () =>
      attempt("mount the anchor", () => ownApi(this.#docker, `containers/${ANCHOR}/mount`, {}), { allow: [404, 500] });
    if ((await mount()) !== null) return;
    await this.remove(ANCHOR);
    const never = { Entrypoint: ["/bin/false"], Cmd: [], HostConfig: { NetworkMode: "none" } };
    await attempt("make the anchor", () => this.#docker.createContainer({ name: ANCHOR, Image: image, ...never }));
    if ((await mount()) === null) throw new DriverError("engine", "the anchor of the store cannot be mounted");
  }

  async list(): Promise<readonly EngineMachine[]> {
    const found = await this.#withoutHalfRemoved(() =>
      attempt("list", () => this.#docker.listContainers({ all: true, filters: { label: [VM_LABEL] } })),
    );
    const machines = found.map((container) => machineOf(container.Labels, container.State));
    // Only a closer look tells whether one that waits to run ever ran, and one that runs does run.
    const looked = machines.map(async (machine) => (machine.state === "stopped" ? machine : this.inspect(machine.vmId)));
    return (await Promise.all(looked)).filter((machine) => machine !== null);
  }

  async inspect(vmId: string): Promise<EngineMachineDetails | null> {
    const look = () =>
      this.#withoutHalfRemoved(() => attempt(`inspect ${vmId}`, () => this.#docker.getContainer(vmId).inspect(), { allow: [404] }));
    let found = await look();
    if (found !== null && BELIEVED_ALIVE.includes(found.State.Status) && (await reportEnd(this.#home, found.Id, found.State.Pid))) {
      found = await look();
    }
    if (found === null) return null;
    const machine = machineOf(found.Config.Labels, found.State.Status);
    return {
      ...machine,
      // One that ran waits to run again after a start that was interrupted, or after a boot of the host.
      state: machine.state === "new" && Date.parse(found.State.StartedAt) > 0 ? "stopped" : machine.state,
      // By this API podman 4 calls one that was never started and one that is ready to run the same.
      halfStarted: found.State.Status === "initialized" || (found.State.Status === "created" && found.State.Pid !== 0),
      halfStopped: found.State.Status === "stopping",
      pid: found.State.Pid,
      containerId: found.Id,
      imageId: found.Image,
    };
  }

  /**
   * Runs `true` once in a container of this image with ids of its own. Answers the folders under its disk, separated by colons, and
   * its exit status.
   */
  async runWithIds(image: string, ids: IdRange): Promise<{ readonly lower: string; readonly status: number }> {
    await this.remove(PROBE);
    const body = probeOf(PROBE, image, ids, this.#home.cgroupParent, this.#settings, this.#limits);
    try {
      await attempt("make the probe", () => ownApi(this.#docker, "containers/create", body));
      const container = this.#docker.getContainer(PROBE);
      const { lower } = disk.parse(await attempt("inspect the probe", () => container.inspect()));
      await attempt("start the probe", () => container.start());
      const { StatusCode } = await attempt("wait for the probe", () => container.wait());
      return { lower, status: StatusCode };
    } finally {
      await this.remove(PROBE);
    }
  }

  async create(spec: EngineMachineSpec, nowS: number): Promise<void> {
    const { vmId, files } = spec;
    const body = containerOf(spec, this.#home.cgroupParent, this.#settings, this.#limits);
    const make = () => attempt(`create ${vmId}`, () => ownApi(this.#docker, "containers/create", body));
    await make().catch(async (error: unknown) => {
      if (!isNameTaken(error)) throw error;
      // An engine that was killed in the middle has kept the disk and no container: inspecting finds nothing, removing does.
      await this.remove(vmId);
      return make();
    });
    const container = this.#docker.getContainer(vmId);
    await attempt(`seed ${vmId}`, () => container.putArchive(tarOf(files, nowS), { path: "/" }));
  }

  async start(vmId: string): Promise<void> {
    const start = () => attempt(`start ${vmId}`, () => this.#docker.getContainer(vmId).start(), { allow: [304] });
    await startDespiteLeftovers(this.#home, start);
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

  /**
   * Lets a frozen guest run on. One that runs already, since an engine was killed before it knew, is frozen for a moment. Tried for
   * as long as a killed engine may take to be back: a guest that was frozen for a moment only must not stay so.
   */
  async unpause(vmId: string): Promise<void> {
    const until = Date.now() + this.#settings.freezeMs;
    for (;;) {
      try {
        return await attempt(`unpause ${vmId}`, () => this.#docker.getContainer(vmId).unpause());
      } catch (error) {
        const machine = await this.inspect(vmId).catch(() => "no answer" as const);
        if (machine === null || Date.now() > until) throw error;
        if (machine === "no answer") await delay(FREEZE_PAUSE_MS);
        else if (machine.state === "paused") await setMachineFrozen(this.#home, machine.containerId, true);
        else if (machine.state === "running") return;
        else throw error;
      }
    }
  }

  /** Lets a guest run on that the engine believes to run: an engine that was killed may have frozen it. */
  async thaw(vmId: string): Promise<void> {
    const machine = await this.inspect(vmId);
    if (machine?.state === "running") await setMachineFrozen(this.#home, machine.containerId, false);
  }

  /** Asks the guest to end, and kills it after the grace. */
  async stop(vmId: string): Promise<void> {
    const stop = () => this.#docker.getContainer(vmId).stop({ t: this.#settings.stopGraceS });
    await despiteLostMonitor(() => attempt(`stop ${vmId}`, stop, { allow: [304] }));
  }

  /** Changes the limits of a running machine; the next start forgets them. */
  async limit(vmId: string, limits: EngineLimits): Promise<void> {
    await attempt(`limit ${vmId}`, () => ownApi(this.#docker, `containers/${vmId}/update`, resourceLimits(limits)));
  }

  /** Keeps the disk of a machine that is held still as an image. */
  async capture(vmId: string, snapshotId: string): Promise<void> {
    await this.images.capture(vmId, snapshotId, await this.inspect(vmId));
  }

  /**
   * Looks at containers. An engine that was killed while it removed one may have kept its record and not its disk, or not all of it, and
   * then fails whoever asks for a list with that: such removals are made an end of, and it is asked again.
   */
  async #withoutHalfRemoved<T>(look: () => Promise<T>): Promise<T> {
    try {
      return await look();
    } catch (error) {
      const going = await this.#beingRemoved().catch(() => []);
      if (going.length === 0) throw error;
      // One whose removal is under way may be gone before this one's turn.
      for (const id of going) await this.remove(id).catch(() => undefined);
      return look();
    }
  }

  /** Ids of containers that are being removed, or were when the engine was killed. By the one way that looks at no disk. */
  async #beingRemoved(): Promise<readonly string[]> {
    const found = await attempt("list", () => ownApi(this.#docker, "containers/json?", { all: true }, "GET"));
    const all = z.array(z.object({ Id: z.string(), State: z.string() })).parse(found);
    return all.filter(({ State }) => State === "removing").map(({ Id }) => Id);
  }

  /** Kills and removes it with its disk; nothing to remove is success. */
  async remove(vmId: string): Promise<void> {
    const remove = () => this.#docker.getContainer(vmId).remove({ force: true, v: true });
    await despiteLostMonitor(() => attempt(`remove ${vmId}`, remove, { allow: [404] }));
  }
}

function machineOf(labels: Readonly<Record<string, string>>, status: string): EngineMachine {
  return {
    vmId: labels[VM_LABEL] ?? "",
    address: labels[ADDRESS_LABEL] ?? "",
    internet: labels[INTERNET_LABEL] !== "false",
    ids: idRangeFrom(labels[IDS_LABEL] ?? ""),
    state: stateOf(status),
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
    case "removing":
      return "going";
    default:
      return "stopped";
  }
}
