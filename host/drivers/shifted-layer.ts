import { join } from "node:path";
import { DriverError } from "../driver.ts";
import { runCommand } from "../network/run-command.ts";
import type { IdRange } from "./id-ranges.ts";

const SCRIPT = join(import.meta.dirname, "unshift-ids.pl");

/**
 * Gives the files of a captured disk the ids that the guest saw. The engine writes down those of the machine's own range instead
 * (containers/container-libs issue 914), which are nobody's in another machine. `layer`: the folder of the image's own files.
 * Throws `DriverError` `engine` where that is not a layer of this store, and when it fails.
 */
export async function unshiftLayer(layer: string, diskDir: string, ids: IdRange): Promise<void> {
  const top = `${diskDir}/storage/overlay/`;
  if (!layer.startsWith(top) || !/^[0-9a-f]{64}\/diff$/.test(layer.slice(top.length))) {
    throw new DriverError("engine", `${layer} is not a disk of ${top}`);
  }
  await runCommand("engine", SCRIPT, [layer, String(ids.first), String(ids.size)]);
}
