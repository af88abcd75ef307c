import { execFileSync } from "node:child_process";
import { createContainerDriver } from "../../host/drivers/container.ts";
import { processLog } from "../../service/log.ts";
import { agentTag } from "../../host/network/addressing.ts";
import { openWorld } from "./guest-world.ts";
import { realpathSync } from "node:fs";
const w = await openWorld((stateDir) => createContainerDriver({ stateDir, cacheDir: "/var/cache/postern", log: processLog("t") }));
const run = `/run/postern/${agentTag(realpathSync(w.stateDir))}`;
let n = 0, bad = 0;
const end = Date.now() + Number(process.argv[2] ?? 150) * 1000;
const one = async (k: number) => {
  while (Date.now() < end) {
    n += 1;
    let step = "create", id = "";
    try {
      const vm = await w.createVm([], { internet: Math.random() < 0.8 }); id = vm.vmId;
      if (k % 2 === 0) { step = "stop"; await w.driver.stop(vm.vmId); step = "start"; await w.driver.start(vm.vmId); }
      if (k % 3 === 0) { step = "snap"; const s = vm.vmId.replace(/./, "z"); await w.driver.snapshot(vm.vmId, s); step = "clone"; const c = await w.createVm([], { snapshotId: s }); await w.driver.deleteSnapshot(s); await w.driver.delete(c.vmId); }
      step = "delete"; await w.driver.delete(vm.vmId);
    } catch (error) { bad += 1; console.log(new Date().toISOString(), "BAD", k, step, id, String(error).slice(0, 700), String((error as {cause?: unknown}).cause).slice(0,300));
      if (id) try { console.log(execFileSync("podman", ["inspect", id, "--format", "{{json .State}}"], { env: { ...process.env, CONTAINERS_CONF: run + "/containers.conf", CONTAINERS_STORAGE_CONF: run + "/storage.conf" } }).toString().slice(0, 900)); } catch (e) { console.log("inspect", String(e).slice(0, 200)); }
    }
  }
};
await Promise.all([0, 1, 2, 3, 4, 5].map(one));
console.log({ n, bad });
await w.close();
