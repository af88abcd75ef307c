import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { Driver } from "../../host/driver.ts";
import { createContainerDriver } from "../../host/drivers/container.ts";
import { leftPidFile, lostMountPoint } from "../../host/drivers/engine-request.ts";
import { type PodmanHome, podmanHome } from "../../host/drivers/podman-home.ts";
import { runCommand } from "../../host/network/run-command.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { createLog } from "../../service/log.ts";
import { CACHE_DIR } from "./guest-world.ts";

describe("the engine's store of disks", () => {
  let driver: Driver;
  let home: PodmanHome;
  beforeAll(async () => {
    const scratch = await mkdtemp(join(tmpdir(), "postern-store-"));
    const stateDir = join(scratch, "state");
    driver = createContainerDriver({ stateDir, cacheDir: CACHE_DIR, log: createLog(() => undefined) });
    await driver.open(() => undefined);
    home = await podmanHome(stateDir);
    return async () => {
      await driver.close();
      await rm(scratch, { recursive: true });
    };
  });

  it("is not let go of by a podman command that ends while no machine runs", async () => {
    const path = join(home.diskDir, "storage", "storage.lock");
    const before = await readFile(path, "hex");
    await runCommand("engine", "podman", ["ps"], { env: home.env });
    expect(await readFile(path, "hex")).toBe(before);
  });

  it("starts a machine whose mount an engine that was killed did not finish undoing", async () => {
    const vmId = newVmId(platformRandomBytes);
    const machine = await driver.create({ vmId, files: [] });
    await driver.stop(vmId);
    const containers: unknown = JSON.parse(
      await readFile(join(home.diskDir, "storage", "overlay-containers", "containers.json"), "utf8"),
    );
    if (!Array.isArray(containers)) throw new Error("no list of containers");
    const { layer } = containers.find((container) => container.names.includes(vmId));
    const mounts = join(home.runDir, "run", "overlay-layers");
    const recorded: unknown[] = JSON.parse(await readFile(join(mounts, "mountpoints.json"), "utf8"));
    const path = join(home.diskDir, "storage", "overlay", layer, "merged");
    await writeFile(join(mounts, "mountpoints.json"), JSON.stringify([...recorded, { id: layer, path, count: 1 }]));
    // Says that another process wrote: the service reads the list anew.
    await writeFile(join(mounts, "mountpoints.lock"), randomBytes(64));
    expect(await driver.start(vmId)).toEqual(machine);
    await driver.delete(vmId);
  });

  it("starts a machine whose start a runtime that was killed has half done", async () => {
    const vmId = newVmId(platformRandomBytes);
    const machine = await driver.create({ vmId, files: [] });
    await driver.stop(vmId);
    const id = await runCommand("engine", "podman", ["inspect", "--format", "{{.Id}}", vmId], { env: home.env });
    const left = join(home.runDir, "run", "overlay-containers", id.trim(), "userdata", ".pidfile");
    await writeFile(left, "", { mode: 0o444 });
    expect(await driver.start(vmId)).toEqual(machine);
    await driver.delete(vmId);
  });
});

describe("a process file in the way of the runtime", () => {
  const container = "cd".repeat(32);
  const words = (path: string) =>
    `start vm: (HTTP code 500) server error - runc: runc create failed: open ${path}: file exists: OCI runtime error `;

  it("is removed", () => {
    const path = `/run/postern/a/run/overlay-containers/${container}/userdata/.pidfile`;
    expect(leftPidFile(words(path), "/run/postern/a")).toBe(path);
  });

  it.each([
    "/etc/.pidfile",
    `/run/postern/a/run/overlay-containers/${container}/userdata/config.json`,
    `/run/postern/a/run/overlay-containers/../${container}/userdata/.pidfile`,
    `/run/postern/b/run/overlay-containers/${container}/userdata/.pidfile`,
  ])("elsewhere than at a container's own place, as %s, is left alone", (path) => {
    expect(leftPidFile(words(path), "/run/postern/a")).toBeNull();
  });
});

describe("a failure to mount", () => {
  const layer = "ab".repeat(32);
  const words = (path: string) =>
    `start vm: (HTTP code 500) server error - mounting storage for container ${layer}: lstat ${path}: no such file or directory `;

  it("names the lost mount point", () => {
    const path = `/srv/containers/storage/overlay/${layer}/merged`;
    expect(lostMountPoint(words(path), "/srv/containers")).toBe(path);
  });

  it.each([
    "/etc/merged",
    `/srv/containers/storage/overlay/${layer}/work`,
    `/srv/containers/storage/overlay/../${layer}/merged`,
    `/srv/other/storage/overlay/${layer}/merged`,
  ])("elsewhere than at a disk's own place, as %s, is not repaired", (path) => {
    expect(lostMountPoint(words(path), "/srv/containers")).toBeNull();
  });
});
