/**
 * A host agent of its own process, to be killed: opens the container driver on the state directory of argv, does what its
 * second argument says, prints one JSON line of what it made, and waits.
 */
import { createContainerDriver } from "../../host/drivers/container.ts";
import { processLog } from "../../service/log.ts";
import { CACHE_DIR } from "./guest-world.ts";

const [stateDir = "", specsJson = "[]", mode = "wait"] = process.argv.slice(2);
const driver = createContainerDriver({ stateDir, cacheDir: CACHE_DIR, log: processLog("fixture") });
await driver.open(() => undefined);
const specs = JSON.parse(specsJson) as { vmId: string; files: { path: string; mode: number; content: string }[] }[];
const making = Promise.all(specs.map((spec) => driver.create(spec)));
if (mode === "wait") await making;
console.log(JSON.stringify({ machines: mode === "wait" ? await making : [] }));
setInterval(() => undefined, 60_000);
