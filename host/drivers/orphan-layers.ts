import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { runCommand } from "../network/run-command.ts";
import type { PodmanHome } from "./podman-home.ts";

/** What containers/storage writes down of its layers, images and containers, in so far as they refer to each other. */
const layer = z.object({
  id: z.string(),
  parent: z.string().optional(),
  created: z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)),
  "diff-digest": z.string().optional(),
});
const image = z.object({ layer: z.string().optional(), "mapped-layers": z.array(z.string()).optional() });
const container = z.object({ layer: z.string() });

/** Everything in a store. */
export interface StoreRecords {
  readonly layers: readonly z.infer<typeof layer>[];
  readonly images: readonly z.infer<typeof image>[];
  readonly containers: readonly z.infer<typeof container>[];
}

export interface OrphanRules {
  /** Only layers that were made before, epoch milliseconds: a disk that is being made belongs to nothing yet either. */
  readonly beforeMs: number;
  /** Also layers that the next image of the same content is going to be made of: while nobody makes any. */
  readonly evenReusable: boolean;
}

/**
 * Removes layers of disks that belong to nothing: an engine that is killed between making a disk and noting what it is for, or between
 * forgetting what it was for and removing it, leaves it for good. The tool refuses those that are in use after all. Throws the first
 * `DriverError` `engine` once all were tried.
 */
export async function removeOrphanLayers({ diskDir, env }: PodmanHome, rules: OrphanRules): Promise<void> {
  const read = async <T>(schema: z.ZodType<T>, ...path: readonly string[]): Promise<readonly T[]> => {
    const text = await readFile(join(diskDir, "storage", ...path), "utf8").catch(() => "[]");
    return z.array(schema).parse(JSON.parse(text));
  };
  // In this order, so that what is made meanwhile is seen by what it refers to, not by what refers to it.
  const layers = await read(layer, "overlay-layers", "layers.json");
  const images = await read(image, "overlay-images", "images.json");
  const containers = await read(container, "overlay-containers", "containers.json");
  const volatile = await read(container, "overlay-containers", "volatile-containers.json");
  const orphans = orphansOf({ layers, images, containers: [...containers, ...volatile] }, rules);
  const failures: unknown[] = [];
  for (const id of orphans) {
    const remove = runCommand("engine", "containers-storage", ["delete-layer", id], { env });
    await remove.catch((error: unknown) => failures.push(error));
  }
  if (failures.length > 0) throw failures[0];
}

/** Ids of layers to which nothing refers that stays, each after those that stand on it. */
export function orphansOf(
  { layers, images, containers }: StoreRecords,
  { beforeMs, evenReusable }: OrphanRules,
): readonly string[] {
  const referred = [
    ...images.flatMap((one) => [one.layer ?? "", ...(one["mapped-layers"] ?? [])]),
    ...containers.map((one) => one.layer),
  ];
  const isMeant = (one: StoreRecords["layers"][number]) =>
    one.created < beforeMs && (evenReusable || one["diff-digest"] === undefined) && !referred.includes(one.id);
  const orphans: string[] = [];
  for (;;) {
    const left = layers.filter(({ id }) => !orphans.includes(id));
    const leaves = left.filter((one) => isMeant(one) && !left.some(({ parent }) => parent === one.id));
    if (leaves.length === 0) return orphans;
    orphans.push(...leaves.map(({ id }) => id));
  }
}
