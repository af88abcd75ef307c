import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import { z } from "zod";
import type { ContainerSettings } from "./container-settings.ts";
import type { EngineMachineDetails } from "./engine.ts";
import { attempt, damagedImage, ownApi } from "./engine-request.ts";
import type { PodmanHome } from "./podman-home.ts";
import { unshiftLayer } from "./shifted-layer.ts";

/** Repository of the images that are snapshots; their tags are the snapshots' ids. */
const SNAPSHOTS = "localhost/postern-snapshot";
/** Of those whose files still have the ids of the machine's range: no snapshots yet, and removed whenever they are met. */
const SHIFTED = "localhost/postern-shifted";
/** Far longer than an image that is being made lacks parts, milliseconds. */
const MAKING_MS = 500;

/** Where the engine says that the files of a container or an image are: its own, and those under it, separated by colons. */
export const disk = z
  .looseObject({ GraphDriver: z.looseObject({ Data: z.looseObject({ UpperDir: z.string(), LowerDir: z.string().optional() }) }) })
  .transform(({ GraphDriver: { Data } }) => ({ upper: Data.UpperDir, lower: Data.LowerDir ?? "" }));

/** How an `EngineImages` reaches its engine. */
export interface EngineAccess {
  readonly docker: Docker;
  /** For what copies a disk. */
  readonly patient: Docker;
  readonly home: PodmanHome;
  readonly settings: ContainerSettings;
}

/** The engine's images that are snapshots of machines. Every method throws `DriverError` `engine` when the engine fails. */
export class EngineImages {
  readonly #docker: Docker;
  readonly #patient: Docker;
  readonly #home: PodmanHome;
  readonly #settings: ContainerSettings;

  constructor({ docker, patient, home, settings }: EngineAccess) {
    this.#docker = docker;
    this.#patient = patient;
    this.#home = home;
    this.#settings = settings;
  }

  /** Name of a snapshot's image, or null when there is none. */
  async snapshotImage(snapshotId: string): Promise<string | null> {
    const name = `${SNAPSHOTS}:${snapshotId}`;
    return (await this.#inspect(name)) === null ? null : name;
  }

  /** On how many images, one over the other, a disk made from this one stands. */
  async depthOf(image: string): Promise<number> {
    return (await this.#inspect(image))?.RootFS?.Layers?.length ?? 1;
  }

  /** Keeps the disk of a machine that is held still as an image; as one image for itself where it would stand on too many. */
  async capture(vmId: string, snapshotId: string, machine: EngineMachineDetails | null): Promise<void> {
    const isDeep = machine !== null && (await this.depthOf(machine.imageId)) >= this.#settings.mostImages;
    const commit = (repo: string) => {
      // The library reads a path that ends so as one whose questions are in `_query`.
      const _query = { container: vmId, repo, tag: snapshotId, pause: false, squash: isDeep };
      return attempt(`capture ${vmId}`, () => ownApi(this.#patient, "commit?", { _query, _body: {} }));
    };
    const ids = machine?.ids ?? null;
    if (ids === null) {
      await commit(SNAPSHOTS);
      return;
    }
    // It has the snapshot's name only when its files have the right ids, however often this is begun.
    const name = `${SHIFTED}:${snapshotId}`;
    await this.#forgetShifted(snapshotId);
    await commit(SHIFTED);
    const { upper } = disk.parse(await this.#inspect(name));
    await unshiftLayer(upper, this.#home.diskDir, ids);
    await attempt(`name ${vmId}'s capture`, () => this.#docker.getImage(name).tag({ repo: SNAPSHOTS, tag: snapshotId }));
    await this.#forgetShifted(snapshotId);
  }

  /** Removes a snapshot's image, or only its name while machines stand on it. */
  async removeSnapshot(snapshotId: string): Promise<void> {
    // What a capture that was interrupted and never tried again has left.
    await this.#forgetShifted(snapshotId);
    const name = `${SNAPSHOTS}:${snapshotId}`;
    if ((await this.#remove(name)) || (await this.snapshotImage(snapshotId)) === null) return;
    await attempt(`unname ${name}`, () => ownApi(this.#docker, `images/${encodeURIComponent(name)}/untag`, {}), { allow: [404] });
  }

  /** Removes an image that has lost its name, unless a machine or another image stands on it. */
  async removeNameless(imageId: string): Promise<void> {
    const found = await this.#inspect(imageId);
    if (found !== null && (found.RepoTags ?? []).length === 0) await this.#remove(imageId);
  }

  /**
   * Removes the images without a name that captures have left which were interrupted, in so far as nothing stands on them: those made
   * before a time, epoch milliseconds, since a capture that is under way has no name for its image yet either.
   */
  async removeUnfinished(beforeMs: number): Promise<void> {
    const look = () => attempt("list images", () => this.#docker.listImages({ filters: { dangling: ["true"] } }));
    for (const { Id } of await this.#withoutDamaged(look)) {
      const made = await this.#inspect(Id);
      if (made !== null && Date.parse(made.Created) < beforeMs) await this.removeNameless(Id);
    }
  }

  /** Takes away the name of a capture whose ids are not right yet, and the capture with it where it has no other. */
  async #forgetShifted(snapshotId: string): Promise<void> {
    const name = `${SHIFTED}:${snapshotId}`;
    const remove = () => attempt(`remove ${name}`, () => this.#docker.getImage(name).remove(), { allow: [404] });
    await this.#withoutDamaged(remove);
  }

  /** Null: there is none. */
  #inspect(image: string): Promise<Docker.ImageInspectInfo | null> {
    return this.#withoutDamaged(() => attempt(`inspect ${image}`, () => this.#docker.getImage(image).inspect(), { allow: [404] }));
  }

  /** False: there is none, or something stands on it. */
  async #remove(image: string): Promise<boolean> {
    const remove = () => attempt(`remove ${image}`, () => this.#docker.getImage(image).remove(), { allow: [404, 409] });
    return (await this.#withoutDamaged(remove)) !== null;
  }

  /**
   * Makes a request about images. An engine that was killed while it made one may have left it without its parts, and fails whoever asks
   * about any image on the same files with that; such a rest is removed, once it has had time to be finished, and it is asked again.
   */
  async #withoutDamaged<T>(request: () => Promise<T>): Promise<T> {
    const met = new Set<string>();
    const removed = new Set<string>();
    for (;;) {
      try {
        return await request();
      } catch (error) {
        const id = damagedImage(error);
        if (id === null || removed.has(id)) throw error;
        if (met.has(id)) {
          await attempt(`remove ${id}`, () => this.#docker.getImage(id).remove({ force: true }), { allow: [404] });
          removed.add(id);
        } else {
          await delay(MAKING_MS);
          met.add(id);
        }
      }
    }
  }
}
