import { createQemuDriver } from "../../host/drivers/qemu/qemu.ts";
import { processLog } from "../../service/log.ts";
import { describeDriver } from "./driver-contract.ts";
import { CACHE_DIR } from "./guest-world.ts";

describeDriver("qemu", "virtual machine", (stateDir) =>
  createQemuDriver({ stateDir, cacheDir: CACHE_DIR, log: processLog("test") }),
);
