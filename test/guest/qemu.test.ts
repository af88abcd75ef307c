import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, realpathSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import type { Driver } from "../../host/driver.ts";
import { removeLeftovers } from "../../host/drivers/leftovers.ts";
import { createQemuDriver } from "../../host/drivers/qemu/qemu.ts";
import { Qmp } from "../../host/drivers/qemu/qmp.ts";
import { MachineLife } from "../../host/machine-life.ts";
import { agentTag } from "../../host/network/addressing.ts";
import { TunnelSplice } from "../../host/tunnel-splice.ts";
import { type Result, success } from "../../protocol/failures.ts";
import { processLog } from "../../service/log.ts";
import { CACHE_DIR, eventually, openWorld, type TestMachine, type World } from "./guest-world.ts";
import { NO_TRACES, tracesOf } from "./traces.ts";

/** The QEMU of a machine, found from outside: its pid, or null. */
function qemuOf(vmId: string): number | null {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const found = pids.find((pid) => {
    try {
      const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      return argv[0] === "qemu-system-x86_64" && argv.includes(vmId);
    } catch {
      return false;
    }
  });
  return found === undefined ? null : Number(found);
}

const runDirOf = (stateDir: string) => `/run/postern/${agentTag(realpathSync(stateDir))}`;
const makeDriver = (stateDir: string): Driver => createQemuDriver({ stateDir, cacheDir: CACHE_DIR, log: processLog("test") });

/** A tunnel of the agent's into a guest, at a port of its own. */
async function tunnelTo(address: string, life: MachineLife, wake: () => Promise<Result<unknown>>) {
  const limits = { keepaliveMs: 30_000, heldBytes: 65_536, settleMs: 1_000 };
  const none = () => undefined;
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const guest = connect({ host: address, port: 22, allowHalfOpen: true }, () => {
      new TunnelSplice(client, guest, { life, wake, ...limits, onCut: none, onClientGone: none, onClosed: none });
    });
  });
  onTestFinished(() => void server.close());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new Error("no port");
  return { address: "127.0.0.1", port: bound.port };
}

// In the order written: each test takes the one machine on from where the last left it, since every start takes seconds.
describe("a virtual machine", () => {
  let world: World;
  let vm: TestMachine;
  beforeAll(async () => {
    world = await openWorld(makeDriver);
    vm = await world.createVm([{ path: "/etc/seeded", mode: 0o640, content: "seeded\n" }]);
    return async () => {
      await world.close();
      await removeLeftovers(world.stateDir);
    };
  });

  /** A command that goes on over SSH: what it says line by line, and what it is told. */
  const session = (command: string, by: { address: string; port: number } = { address: vm.address, port: 22 }) => {
    const options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"];
    const args = [
      "-i",
      world.key.privatePath,
      ...options.flatMap((option) => ["-o", option]),
      "-p",
      String(by.port),
      `root@${by.address}`,
      command,
    ];
    const child = spawn("ssh", args, { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return {
      say: (text: string) => child.stdin.write(`${text}\n`),
      next: async () => String((await lines.next()).value),
      end: () => child.stdin.end(),
    };
  };

  it("has a kernel, a name, a host key, a machine id and seed files of its own", async () => {
    const shown = await world.ssh(
      vm,
      "uname -r; hostname; cat /etc/hostname /etc/seeded; stat -c '%a %U' /etc/seeded; getent hosts $(hostname)",
    );
    const [kernel, ...rest] = shown.stdout.split("\n");
    expect(kernel).toMatch(/cloud-amd64$/);
    expect(kernel).not.toBe(readFileSync("/proc/sys/kernel/osrelease", "utf8").trim());
    expect(rest.slice(0, 5)).toEqual([vm.vmId, vm.vmId, "seeded", "640 root", expect.stringContaining(vm.vmId)]);
    const other = await world.createVm();
    const identity =
      "cat /etc/machine-id /proc/sys/kernel/random/uuid; cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub 2>/dev/null";
    const [mine, theirs] = [await world.ssh(vm, identity), await world.ssh(other, identity)];
    for (const line of mine.stdout.split("\n").filter(Boolean)) expect(theirs.stdout).not.toContain(line);
    await world.driver.delete(other.vmId);
    expect(qemuOf(other.vmId)).toBeNull();
  });

  it("admits published keys only, and for their user only", async () => {
    const stranger = await world.makeKey();
    world.metadata.publish(vm.vmId, "nobody", stranger);
    expect((await world.ssh(vm, "true", { key: stranger })).status).toBe(255);
  });

  it("runs as a user of its own that may not make processes", () => {
    const status = readFileSync(`/proc/${qemuOf(vm.vmId)}/status`, "utf8");
    expect(Number(/^Uid:\s+(\d+)/m.exec(status)?.[1])).toBeGreaterThan(65_536);
    expect(status).toMatch(/^Seccomp:\s+2$/m);
  });

  it("sleeps to disk without a process and wakes with every process, its clock right and open SSH sessions open", async () => {
    const life = new MachineLife();
    const wake = async () => {
      expect(await world.driver.start(vm.vmId)).toMatchObject({ state: "running", address: vm.address });
      life.wakeUp();
      return success(null);
    };
    const tunnel = await tunnelTo(vm.address, life, wake);
    const talk = session('while read -r line; do echo "heard $line"; done', tunnel);
    talk.say("one");
    expect(await talk.next()).toBe("heard one");
    await life.fallAsleep();
    expect(await world.driver.pause(vm.vmId)).toMatchObject({ state: "paused" });
    expect(qemuOf(vm.vmId)).toBeNull();
    expect(statSync(join(world.stateDir, "machines", vm.vmId, "memory")).size).toBeLessThan(400 * 1024 ** 2);
    // What is typed is held, and wakes it.
    talk.say("two");
    expect(await talk.next()).toBe("heard two");
    talk.end();
    const clock = Number((await world.ssh(vm, "date +%s")).stdout);
    expect(Math.abs(clock - Date.now() / 1000)).toBeLessThan(10);
  });

  it("is taken over by the next agent as it runs, and open SSH sessions stay open", async () => {
    const talk = session('while read -r line; do echo "heard $line"; done');
    talk.say("before");
    expect(await talk.next()).toBe("heard before");
    const pid = qemuOf(vm.vmId);
    // The first driver is forgotten as by a crash in the middle of a sleep: its machine stands still.
    const monitor = await Qmp.open(join(runDirOf(world.stateDir), "vm", vm.vmId, "qmp"), 5_000);
    await monitor.ask("stop");
    monitor.close();
    const next = makeDriver(world.stateDir);
    await next.open(() => undefined);
    await next.routeMetadata(world.metadataPort);
    expect(await next.inspect(vm.vmId)).toMatchObject({ state: "running", address: vm.address });
    expect(next.vmAtAddress(vm.address)).toBe(vm.vmId);
    expect(qemuOf(vm.vmId)).toBe(pid);
    talk.say("after");
    expect(await talk.next()).toBe("heard after");
    talk.end();
  });

  it("whose saved memory is there cannot run too: its process is ended, and memory that cannot be read is said to be so", async () => {
    await world.ssh(vm, "echo kept >/root/file; sync");
    const memory = join(world.stateDir, "machines", vm.vmId, "memory");
    writeFileSync(memory, "no memory");
    await world.driver.open(() => undefined);
    await world.driver.routeMetadata(world.metadataPort);
    expect(await world.driver.inspect(vm.vmId)).toMatchObject({ state: "paused" });
    expect(qemuOf(vm.vmId)).toBeNull();
    await expect(world.driver.start(vm.vmId)).rejects.toThrow("its memory could not be read");
    expect(await world.driver.inspect(vm.vmId)).toMatchObject({ state: "paused" });
    expect(await world.driver.stop(vm.vmId)).toMatchObject({ state: "stopped" });
    expect(existsSync(memory)).toBe(false);
  });

  it("that is killed counts as stopped, and starts again from its disk", async () => {
    await world.driver.start(vm.vmId);
    process.kill(qemuOf(vm.vmId) ?? 0, "SIGKILL");
    await eventually("it is known to be down", async () => (await world.driver.inspect(vm.vmId))?.state === "stopped");
    expect(await world.driver.start(vm.vmId)).toMatchObject({ state: "running", address: vm.address });
    expect((await world.ssh(vm, "cat /root/file; hostname")).stdout).toBe(`kept\n${vm.vmId}\n`);
  });

  it("sleeps when its driver closes, which leaves nothing in the kernel, and wakes with the next", async () => {
    const pid = (await world.ssh(vm, "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!")).stdout.trim();
    await world.driver.close();
    expect(await tracesOf(world.stateDir)).toEqual(NO_TRACES);
    await world.driver.open(() => undefined);
    await world.driver.routeMetadata(world.metadataPort);
    expect(await world.driver.inspect(vm.vmId)).toMatchObject({ state: "paused" });
    await world.driver.start(vm.vmId);
    expect(existsSync(join(world.stateDir, "machines", vm.vmId, "memory"))).toBe(false);
    expect((await world.ssh(vm, `kill -0 ${pid} && echo alive`)).stdout).toBe("alive\n");
  });

  it("that was half made when its agent was killed is gone with the next, process and disk", async () => {
    const record = join(world.stateDir, "machines", vm.vmId, "machine.json");
    writeFileSync(record, readFileSync(record, "utf8").replace('"made"', '"making"'));
    await world.driver.open(() => undefined);
    expect(await world.driver.inspect(vm.vmId)).toBeNull();
    expect(qemuOf(vm.vmId)).toBeNull();
    expect(readdirSync(join(world.stateDir, "machines"))).toEqual([]);
    await world.driver.close();
    expect(await tracesOf(world.stateDir)).toEqual(NO_TRACES);
  });
});
