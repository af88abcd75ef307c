import { createContainerDriver } from "../../host/drivers/container.ts";
import { processLog } from "../../service/log.ts";
import { describeDriver } from "./driver-contract.ts";
import { CACHE_DIR } from "./guest-world.ts";

describeDriver("container", "container", (stateDir) =>
  createContainerDriver({ stateDir, cacheDir: CACHE_DIR, log: processLog("test") }),
);
