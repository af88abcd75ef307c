import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import type { Driver } from "../../host/driver.ts";
import { createContainerDriver } from "../../host/drivers/container.ts";
import { leftPidFile, lostMountPoint } from "../../host/drivers/engine-request.ts";
import { processesWith } from "../../host/drivers/leftovers.ts";
import { orphansOf, type StoreRecords } from "../../host/drivers/orphan-layers.ts";
import { type PodmanHome, podmanHome } from "../../host/drivers/podman-home.ts";
import { runCommand } from "../../host/network/run-command.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { createLog } from "../../service/log.ts";
import { CACHE_DIR, eventually } from "./guest-world.ts";

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

  it("keeps a snapshot, and what it stands on no longer than it, although an engine that was killed has left one half made", async () => {
    const disks = async () => (await readdir(join(home.diskDir, "storage", "overlay"))).sort();
    const before = await disks();
    const vmId = newVmId(platformRandomBytes);
    await driver.create({ vmId, files: [] });
    await driver.stop(vmId);
    const [half, whole] = [newVmId(platformRandomBytes), newVmId(platformRandomBytes)];
    await driver.snapshot(vmId, half);
    await halveImage(home, half);
    await driver.snapshot(vmId, whole);
    await driver.delete(vmId);
    await driver.deleteSnapshot(half);
    await driver.create({ vmId, files: [], snapshotId: whole });
    await driver.delete(vmId);
    await driver.deleteSnapshot(whole);
    expect(await disks()).toEqual(before);
  });

  it("loses the disks that belong to nothing when an engine that was killed is started again", async () => {
    const disks = async () => (await readdir(join(home.diskDir, "storage", "overlay"))).sort();
    const vmId = newVmId(platformRandomBytes);
    await driver.create({ vmId, files: [] });
    const before = await disks();
    const storage = (...args: string[]) => runCommand("engine", "containers-storage", args, { env: home.env });
    const under = (await storage("create-layer")).trim();
    await storage("create-layer", under);
    expect(await disks()).toHaveLength(before.length + 2);
    await killEngine(home);
    await eventually("they are gone", async () => (await disks()).length === before.length);
    expect(await disks()).toEqual(before);
    await driver.delete(vmId);
  });

  it("is open to an engine that is started again, although a fork of the one that was killed holds its lock", async () => {
    const service = `unix://${home.socket}`;
    const lock = join(home.diskDir, "storage", "overlay-layers", "layers.lock");
    const fork = spawn("bash", ["-c", 'exec 9<"$0"; flock 9; echo held; read', lock, service], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const ended = once(fork, "exit");
    const [said] = await once(fork.stdout, "data");
    expect(String(said)).toBe("held\n");
    await killEngine(home);
    expect(await ended).toEqual([null, "SIGKILL"]);
    await eventually("the engine answers", async () => {
      const vmId = newVmId(platformRandomBytes);
      const made = await driver.create({ vmId, files: [] }).catch(() => null);
      if (made !== null) await driver.delete(vmId);
      return made !== null;
    });
  });
});

async function killEngine({ socket }: PodmanHome): Promise<void> {
  const pids = await processesWith((argv) => argv[0] === "podman" && argv.includes(`unix://${socket}`));
  expect(pids).toHaveLength(1);
  for (const pid of pids) process.kill(pid, "SIGKILL");
}

/** Makes of a snapshot what an engine leaves that is killed before it has named the image and written down what it is made of. */
async function halveImage({ diskDir }: PodmanHome, snapshotId: string): Promise<void> {
  const folder = join(diskDir, "storage", "overlay-images");
  const images = z.array(z.looseObject({ id: z.string(), names: z.array(z.string()).optional() }));
  const found = images.parse(JSON.parse(await readFile(join(folder, "images.json"), "utf8")));
  const halved = found.map((image) => {
    if (image.names?.some((name) => name.endsWith(`:${snapshotId}`)) !== true) return image;
    const { names, digest, ...rest } = image;
    const config = `sha256:${image.id}`;
    return { ...rest, "big-data-names": [config] };
  });
  const [id = ""] = found.flatMap(({ id: one, names }) => (names?.some((name) => name.endsWith(`:${snapshotId}`)) ? [one] : []));
  await rm(join(folder, id, "manifest"));
  await writeFile(join(folder, "images.json"), JSON.stringify(halved));
  await writeFile(join(folder, "images.lock"), randomBytes(64));
}

describe("a layer of a disk", () => {
  const records: StoreRecords = {
    layers: [
      { id: "base", created: 1 },
      { id: "machine", parent: "base", created: 2 },
      { id: "snapshot", parent: "base", created: 2, "diff-digest": "sha256:1" },
      { id: "mapped", created: 2 },
    ],
    images: [{ layer: "snapshot", "mapped-layers": ["mapped"] }],
    containers: [{ layer: "machine" }],
  };
  const idle = { beforeMs: 10, evenReusable: true };

  it("is kept where a machine, a snapshot or a layer that is kept stands on it", () => {
    expect(orphansOf(records, idle)).toEqual([]);
  });

  it("goes where nothing does, after those that stand on it", () => {
    expect(orphansOf({ ...records, containers: [], images: [] }, idle)).toEqual(["machine", "snapshot", "mapped", "base"]);
  });

  it("is kept where it may be part of what is being made", () => {
    const { layers } = records;
    expect(orphansOf({ layers, images: [], containers: [] }, { ...idle, beforeMs: 2 })).toEqual([]);
    expect(orphansOf({ layers, images: [], containers: [] }, { ...idle, evenReusable: false })).toEqual(["machine", "mapped"]);
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
