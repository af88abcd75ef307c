import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DriverError } from "../../host/driver.ts";
import { writeFileAtomically } from "../../service/atomic-file.ts";
import { SUBJECT } from "./support/test-edge.ts";
import { json, startTestHost, type TestHost } from "./support/test-host.ts";

/** A disk of 256 KiB as the state folder's parent, which is really full. */
const mount = mkdtempSync(join(tmpdir(), "postern-full-"));
const stateDir = join(mount, "state");
const ballast = join(mount, "ballast");

function fill(): void {
  const file = openSync(ballast, "w");
  try {
    for (;;) writeSync(file, Buffer.alloc(4096));
  } catch {
    // It is full.
  } finally {
    closeSync(file);
  }
}
const makeRoom = () => rmSync(ballast, { force: true });

let host: TestHost;
let vm: string;
beforeAll(async () => {
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k,mode=700", "postern-test", mount]);
  execFileSync("mkdir", [stateDir]);
  host = await startTestHost({ POSTERN_HOST_DISK_RESERVE_MIB: "0", POSTERN_HOST_FILES_RESERVE: "0" }, null, stateDir);
  vm = await host.createVm();
}, 60_000);
afterAll(async () => {
  makeRoom();
  await host.close();
  execFileSync("umount", [mount]);
  rmSync(mount, { recursive: true });
});

const recordOf = () => readFileSync(join(stateDir, "vms", `${vm}.json`), "utf8");
async function expectFull(answer: Response): Promise<void> {
  expect([answer.status, await answer.json()]).toMatchObject([
    503,
    { kind: "host-disk-full", message: expect.stringContaining("full") },
  ]);
}

describe("a host whose disk is full", () => {
  test("makes no VM, says so, leaves nothing of it, and makes the same one once there is room", async () => {
    const other = "d".repeat(20);
    const create = () => host.request("PUT", `/vms/${other}`, { vm: other, op: "create" }, json({}));
    fill();
    await expectFull(await create());
    expect(await host.driver.inspect(other)).toBeNull();
    expect(readdirSync(join(stateDir, "vms"))).toEqual([`${vm}.json`]);
    makeRoom();
    expect((await create()).status).toBe(200);
    await host.request("DELETE", `/vms/${other}`, { vm: other, op: "delete" });
  });

  test("changes no VM's sleep policy and begins no upload; the record stays whole, and the VM goes on", async () => {
    const before = recordOf();
    const policy = { idleTimeoutSeconds: 3_600, activityThresholdBytes: null };
    const change = () => host.request("PUT", `/vms/${vm}/idle`, { vm, op: "update" }, json(policy));
    const upload = () =>
      host.request("POST", `/vms/${vm}/uploads`, { vm, user: "root", op: "files" }, json({ path: "/root/big", size: 10 }));
    fill();
    await expectFull(await change());
    await expectFull(await upload());
    expect(recordOf()).toBe(before);
    expect(readdirSync(join(stateDir, "vms"))).toEqual([`${vm}.json`]);
    expect(await (await host.exec(vm, "root", { command: "ls -A /root" })).json()).toMatchObject({ stdout: "", statusCode: 0 });
    makeRoom();
    expect((await change()).status).toBe(200);
    expect((await upload()).status).toBe(200);
  });

  test("deletes a VM all the same, which is how room is made", async () => {
    const gone = await host.createVm();
    fill();
    expect((await host.request("DELETE", `/vms/${gone}`, { vm: gone, op: "delete" })).status).toBe(200);
    makeRoom();
    expect(readdirSync(join(stateDir, "vms"))).toEqual([`${vm}.json`]);
  });

  test.each([
    ["suspend", "pause", new Error("write ENOSPC", { cause: Object.assign(new Error("full"), { code: "ENOSPC" }) })],
    ["stop", "stop", new DriverError("engine", "open /var/lib/x: no space left on device")],
  ] as const)("that keeps its driver from a %s says so, and the VM goes on and answers", async (op, method, error) => {
    host.driver.failing.add(method);
    host.driver.failure = error;
    await expectFull(await host.request("POST", `/vms/${vm}/${op}`, { vm, op }));
    host.driver.failing.delete(method);
    expect(await (await host.exec(vm, "root", { command: "echo on" })).json()).toMatchObject({ stdout: "on\n" });
  });

  test("that keeps a sleeping VM from waking says so, and it wakes once there is room", async () => {
    await host.request("POST", `/vms/${vm}/suspend`, { vm, op: "suspend" });
    host.driver.failing.add("start");
    host.driver.failure = Object.assign(new Error("full"), { code: "ENOSPC" });
    await expectFull(await host.request("POST", `/vms/${vm}/start`, { vm, op: "start" }));
    host.driver.failing.delete("start");
    expect((await host.request("POST", `/vms/${vm}/start`, { vm, op: "start" })).status).toBe(200);
  });
});

test("an agent that starts on a full disk takes up its VMs, and says of a command whose result it cannot note that it is over", async () => {
  const id = `ri-${"j".repeat(20)}`;
  const owner = { vmId: vm, linuxUser: "root", subject: SUBJECT };
  await host.restart(() => {
    writeFileAtomically(join(stateDir, "jobs", `${id}.json`), JSON.stringify({ id, ...owner, endedAt: null, bytes: 0 }));
    fill();
  });
  expect(await (await host.exec(vm, "root", { command: "echo on" })).json()).toMatchObject({ stdout: "on\n" });
  const look = await host.request("GET", `/vms/${vm}/jobs/${id}`, { vm, user: "root", op: "exec" });
  expect(await look.json()).toMatchObject({ kind: "host-disk-full" });
  makeRoom();
});

test("a file that does not fit onto a disk leaves what was there, and no part of itself", () => {
  const path = join(mount, "kept");
  writeFileAtomically(path, "old");
  fill();
  execFileSync("truncate", ["-s", "-8192", ballast]);
  expect(() => writeFileAtomically(path, "x".repeat(64 * 1024))).toThrow("ENOSPC");
  makeRoom();
  expect(readFileSync(path, "utf8")).toBe("old");
  expect(readdirSync(mount).sort()).toEqual(["kept", "state"]);
  rmSync(path);
});

test("a guest whose own disk is full refuses a file with that reason, leaves nothing of it, and takes one that fits", async () => {
  await host.exec(vm, "root", { command: "mkdir /root/small && mount -t tmpfs -o size=512k small /root/small" });
  const write = (bytes: number) =>
    host.request(
      "PUT",
      `/vms/${vm}/files?path=/root/small/file`,
      { vm, user: "root", op: "files" },
      { body: Buffer.alloc(bytes, 1) },
    );
  const refused = await write(2_000_000);
  expect([refused.status, await refused.json()]).toMatchObject([507, { kind: "vm-disk-full" }]);
  expect(await (await host.exec(vm, "root", { command: "ls -A /root/small" })).json()).toMatchObject({ stdout: "" });
  expect((await write(100_000)).status).toBe(200);
});

test("a VM whose sshd is dead says so and how to get it back, and a stop and start brings it back", async () => {
  await host.driver.killSshd(vm);
  let message = "";
  // A command that was on its way over a connection from before is told only that it was not taken.
  while (!message.includes("stop the VM")) {
    const dead = await host.exec(vm, "root", { command: "true" });
    const answer = (await dead.json()) as { kind: string; message: string };
    expect([dead.status, answer.kind]).toEqual([503, "host-unavailable"]);
    message = answer.message;
  }
  expect((await host.request("POST", `/vms/${vm}/stop`, { vm, op: "stop" })).status).toBe(200);
  expect(await (await host.exec(vm, "root", { command: "echo back" })).json()).toMatchObject({ stdout: "back\n" });
});
