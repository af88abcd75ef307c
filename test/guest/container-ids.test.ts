import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { Driver } from "../../host/driver.ts";
import { createContainerDriver } from "../../host/drivers/container.ts";
import { type ContainerSettings, DEFAULT_CONTAINER_SETTINGS } from "../../host/drivers/container-settings.ts";
import { podmanHome } from "../../host/drivers/podman-home.ts";
import { runCommand } from "../../host/network/run-command.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { createLog } from "../../service/log.ts";
import { guestPid, inGuest } from "./guest-process.ts";
import { CACHE_DIR } from "./guest-world.ts";

const FIRST_OF_ALL = 0x7000_0000;
/** VFS_CAP_REVISION_2, effective, CAP_NET_BIND_SERVICE (capabilities(7)). */
const CAPABILITY = "0100000200040000000000000000000000000000";
const READ_CAPABILITY = `python3 -c 'import os; print(os.getxattr("/usr/local/bin/able", "security.capability").hex())'`;
const GIVE_CAPABILITY = `python3 -c 'import os; os.setxattr("/usr/local/bin/able", "security.capability", bytes.fromhex("${CAPABILITY}"))'`;

/** What a guest's own users have: a home, a setuid program, one with a capability, and a file that is no more. */
const FURNISH = [
  "useradd --create-home alice",
  "touch /home/alice/mine && chown alice:alice /home/alice/mine",
  "cp /bin/true /usr/local/bin/setuid && chown alice:nogroup /usr/local/bin/setuid && chmod 6755 /usr/local/bin/setuid",
  `cp /bin/true /usr/local/bin/able && chown alice /usr/local/bin/able && ${GIVE_CAPABILITY}`,
  "ln -s /nowhere /home/alice/link && chown -h alice /home/alice/link && mkfifo /home/alice/pipe",
  "rm /usr/bin/nano && rm -r /usr/share/keyrings && mkdir /usr/share/keyrings",
].join(" && ");
const LOOK = [
  "stat -c '%U:%G %a %n' /home/alice /home/alice/mine /home/alice/link /home/alice/pipe /usr/local/bin/setuid /usr/bin/sudo /etc/shadow",
  READ_CAPABILITY,
  "su alice -c 'cat /home/alice/mine && sudo --version >/dev/null && /usr/local/bin/able && echo able'",
  "[ ! -e /usr/bin/nano ] && ls -A /usr/share/keyrings && echo gone",
].join("; ");
const SEEN = [
  "alice:alice 755 /home/alice",
  "alice:alice 644 /home/alice/mine",
  "alice:root 777 /home/alice/link",
  "root:root 644 /home/alice/pipe",
  "alice:nogroup 6755 /usr/local/bin/setuid",
  "root:root 4755 /usr/bin/sudo",
  "root:shadow 640 /etc/shadow",
  CAPABILITY,
  "able",
  "gone",
];

describe("guests with users and groups of their own", () => {
  const newId = () => newVmId(platformRandomBytes);
  let driver: Driver;
  let stateDir: string;
  const open = async (userNamespaces: ContainerSettings["userNamespaces"]) => {
    const settings = { ...DEFAULT_CONTAINER_SETTINGS, userNamespaces, mostImages: 3 };
    driver = createContainerDriver({ stateDir, cacheDir: CACHE_DIR, log: createLog(() => undefined), settings });
    await driver.open(() => undefined);
  };
  const create = async (snapshotId?: string) => {
    const files = [{ path: "/etc/seeded", mode: 0o600, content: "seed" }];
    return (await driver.create({ vmId: newId(), files, ...(snapshotId === undefined ? {} : { snapshotId }) })).vmId;
  };
  const mapOf = async (vmId: string) =>
    (await readFile(`/proc/${await guestPid(vmId)}/uid_map`, "utf8")).trim().split(/\s+/).map(Number);
  const look = async (vmId: string) => {
    const { stdout, stderr } = await inGuest(vmId, LOOK);
    return `${stdout}${stderr}`.trim().split("\n");
  };

  /** Made before guests had ids of their own. */
  let old: string;
  beforeAll(async () => {
    const scratch = await mkdtemp(join(tmpdir(), "postern-ids-"));
    stateDir = join(scratch, "state");
    await open("off");
    old = await create();
    await inGuest(old, FURNISH);
    await driver.close();
    await open("on");
    return async () => {
      await driver.close();
      await rm(scratch, { recursive: true });
    };
  });

  it("each have a range that no other has, in which root is nobody on the host", async () => {
    const [first, second] = await Promise.all([create(), create()]);
    const [[, one = 0, many], [, another = 0]] = [await mapOf(first), await mapOf(second)];
    expect(many).toBe(65_536);
    for (const from of [one, another]) expect(from).toBeGreaterThan(FIRST_OF_ALL);
    expect(Math.abs(one - another)).toBeGreaterThanOrEqual(65_536);
    expect(await stat(`/proc/${await guestPid(first)}/root/etc/seeded`)).toMatchObject({ uid: one, gid: one });
    await driver.stop(first);
    await driver.start(first);
    expect((await mapOf(first))[1]).toBe(one);
    await driver.delete(first);
    await driver.delete(second);
  });

  it("do not copy the guest image", async () => {
    const vmId = await create();
    const home = await podmanHome(stateDir);
    const upper = await runCommand("engine", "podman", ["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", vmId], {
      env: home.env,
    });
    const [size] = (await runCommand("engine", "du", ["-sm", upper.trim()])).split("\t");
    expect(Number(size)).toBeLessThan(5);
    await driver.delete(vmId);
  });

  it("are those that were made so: one from before keeps the host's ids, and works as it did", async () => {
    await driver.start(old);
    expect(await mapOf(old)).toEqual([0, 0, 4_294_967_295]);
    expect(await look(old)).toEqual(SEEN);
  });

  it("have the owners, setuid bits and file capabilities of a snapshot, whichever ids its machine had", async () => {
    await driver.start(old);
    const snapshots = [newId(), newId(), newId(), newId()] as const;
    await driver.snapshot(old, snapshots[0]);
    const child = await create(snapshots[0]);
    expect(await look(child)).toEqual(SEEN);
    await inGuest(child, "touch /home/alice/more && chown alice /home/alice/more; chown root:alice /home/alice/pipe");
    // Twice the same disk: the engine keeps one layer for both.
    await driver.snapshot(child, snapshots[1]);
    await driver.snapshot(child, snapshots[2]);
    await driver.delete(child);
    const [grandchild] = await Promise.all([create(snapshots[1]), create(snapshots[2])]);
    const seen = SEEN.map((line) => line.replace("root:root 644 /home/alice/pipe", "root:alice 644 /home/alice/pipe"));
    expect(await look(grandchild)).toEqual(seen);
    // It stands on as many images as one may: its snapshot is one for itself.
    await driver.snapshot(grandchild, snapshots[3]);
    const last = await create(snapshots[3]);
    expect(await look(last)).toEqual(seen);
    expect((await inGuest(last, "stat -c %U /home/alice/more")).stdout).toBe("alice\n");
  });

  it("can be turned off again: a snapshot of theirs begins machines with the host's ids", async () => {
    const [vmId, snapshotId] = [await create(), newId()];
    await inGuest(vmId, FURNISH);
    await driver.snapshot(vmId, snapshotId);
    await driver.delete(vmId);
    await driver.close();
    await open("off");
    const plain = await create(snapshotId);
    expect(await mapOf(plain)).toEqual([0, 0, 4_294_967_295]);
    expect(await look(plain)).toEqual(SEEN);
  });
});
