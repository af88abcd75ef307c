import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Driver, DriverError, type Machine } from "../../host/driver.ts";
import { createContainerDriver } from "../../host/drivers/container.ts";
import { removeLeftovers } from "../../host/drivers/leftovers.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { createLog } from "../../service/log.ts";
import { CACHE_DIR, eventually, run } from "./guest-world.ts";
import { NO_TRACES, tracesOf } from "./traces.ts";

/** Whether the guest's network answers; nothing listens on port 1, so a live guest refuses at once. */
const answers = async (address: string) =>
  (await run("bash", ["-c", `timeout 2 bash -c 'exec 3<>/dev/tcp/${address}/1'`])).stderr.includes("refused");

describe("a host agent that was killed", () => {
  let scratch: string;
  let stateDir: string;
  let agents: ChildProcess[];

  beforeEach(async () => {
    scratch = await mkdtemp(join(tmpdir(), "postern-crash-"));
    stateDir = join(scratch, "state");
    agents = [];
  });
  afterEach(async () => {
    for (const agent of agents) await kill(agent);
    await removeLeftovers(stateDir);
    await rm(scratch, { recursive: true, force: true });
  });

  const driverHere = (): Driver => createContainerDriver({ stateDir, cacheDir: CACHE_DIR, log: createLog(() => undefined) });

  const startAgent = async (
    vmIds: readonly string[],
    mode: "wait" | "hurry",
  ): Promise<{ agent: ChildProcess; machines: Machine[] }> => {
    const specs = JSON.stringify(vmIds.map((vmId) => ({ vmId, files: [] })));
    const agent = spawn(process.execPath, [join(import.meta.dirname, "agent-fixture.ts"), stateDir, specs, mode], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    agents.push(agent);
    const [line] = (await once(createInterface(agent.stdout), "line")) as [string];
    return { agent, machines: (JSON.parse(line) as { machines: Machine[] }).machines };
  };

  const kill = async (agent: ChildProcess) => {
    if (agent.exitCode !== null || agent.signalCode !== null) return;
    const ended = once(agent, "exit");
    agent.kill("SIGKILL");
    await ended;
  };

  const newVm = () => newVmId(platformRandomBytes);

  it("leaves its machines running, and its successor has them with state, address and network", async () => {
    const [running, paused, stopped] = [newVm(), newVm(), newVm()];
    const { agent, machines } = await startAgent([running, paused, stopped], "wait");
    const addressOf = new Map(machines.map((machine) => [machine.vmId, machine.address]));
    await kill(agent);
    expect(await answers(addressOf.get(running) ?? "")).toBe(true);

    const driver = driverHere();
    await driver.open(() => undefined);
    await driver.pause(paused);
    await driver.stop(stopped);
    const listed = new Map((await driver.list()).map((machine) => [machine.vmId, machine]));
    for (const [vmId, state] of [
      [running, "running"],
      [paused, "paused"],
      [stopped, "stopped"],
    ] as const) {
      const address = addressOf.get(vmId) ?? "";
      expect(listed.get(vmId)).toEqual({ vmId, state, address });
      expect(driver.vmAtAddress(address)).toBe(vmId);
    }
    expect(await answers(addressOf.get(running) ?? "")).toBe(true);
    const another = await driver.create({ vmId: newVm(), files: [] });
    expect(machines.map((machine) => machine.address)).not.toContain(another.address);
    await driver.close();
    expect(await tracesOf(stateDir)).toEqual(NO_TRACES);
  });

  it("takes the engine's service with it, and nobody may share its machines while it lives", async () => {
    const { agent } = await startAgent([], "wait");
    const refusal = await driverHere()
      .open(() => undefined)
      .catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(DriverError);
    await kill(agent);
    await eventually("the service ends", async () => (await tracesOf(stateDir)).processes.length === 0);
  });

  it("leaves nothing in the way when it was killed in the middle of creating", async () => {
    const vmIds = Array.from({ length: 6 }, newVm);
    const { agent } = await startAgent(vmIds, "hurry");
    await eventually("an engine works on it", async () =>
      (await tracesOf(stateDir)).processes.some((line) => line.includes("conmon")),
    );
    await kill(agent);

    const driver = driverHere();
    await driver.open(() => undefined);
    const machines = await Promise.all(vmIds.map((vmId) => driver.create({ vmId, files: [] })));
    for (const machine of machines) {
      expect(machine.state).toBe("running");
      expect(await answers(machine.address)).toBe(true);
    }
    await Promise.all(vmIds.map((vmId) => driver.delete(vmId)));
    expect(await driver.list()).toEqual([]);
    await driver.close();
    expect(await tracesOf(stateDir)).toEqual(NO_TRACES);
  });

  it("is cleared away whole by removeLeftovers, frozen machines too", async () => {
    const [running, paused] = [newVm(), newVm()];
    const { agent } = await startAgent([running, paused], "wait");
    await kill(agent);
    const driver = driverHere();
    await driver.open(() => undefined);
    await driver.pause(paused);
    await removeLeftovers(stateDir);
    await eventually("nothing is left", async () => (await tracesOf(stateDir)).processes.length === 0);
    expect(await tracesOf(stateDir)).toEqual(NO_TRACES);
  });

  it("has its machines, stopped and with their disks, after the whole host lost power", async () => {
    const [running, paused] = [newVm(), newVm()];
    const { agent } = await startAgent([running, paused], "wait");
    await kill(agent);
    // What a boot takes away: processes, mounts, and everything under /run.
    await removeLeftovers(stateDir);
    const driver = driverHere();
    await driver.open(() => undefined);
    expect((await driver.list()).map(({ vmId, state }) => [vmId, state]).sort()).toEqual(
      [running, paused].map((vmId) => [vmId, "stopped"]).sort(),
    );
    expect(await driver.start(running)).toMatchObject({ state: "running" });
    await driver.close();
  });

  it("does not pass its machines on to a state directory made anew", async () => {
    const vmId = newVm();
    const { agent } = await startAgent([vmId], "wait");
    await kill(agent);
    // What `rm -rf` on a live state directory leaves behind differs by file system; only the directory's life matters.
    await rm(join(stateDir, "containers", "life"));
    const driver = driverHere();
    await driver.open(() => undefined);
    expect((await tracesOf(stateDir)).processes.filter((line) => line.includes("conmon"))).toEqual([]);
    await driver.close();
    expect(await tracesOf(stateDir)).toEqual(NO_TRACES);
  });
});

describe("closing", () => {
  let scratch: string;
  beforeEach(async () => {
    scratch = await mkdtemp(join(tmpdir(), "postern-close-"));
  });
  afterEach(async () => {
    for (const name of await readdir(scratch)) await removeLeftovers(join(scratch, name));
    await rm(scratch, { recursive: true });
  });

  it("leaves no process, mount, interface, firewall table or cgroup, and keeps the disks", async () => {
    const stateDir = join(scratch, "state");
    const make = () => createContainerDriver({ stateDir, cacheDir: CACHE_DIR, log: createLog(() => undefined) });
    const driver = make();
    await driver.open(() => undefined);
    const machine = await driver.create({
      vmId: newVmId(platformRandomBytes),
      files: [{ path: "/etc/kept", mode: 0o600, content: "kept" }],
    });
    const frozen = await driver.create({ vmId: newVmId(platformRandomBytes), files: [] });
    await driver.pause(frozen.vmId);
    const during = await tracesOf(stateDir);
    for (const kind of Object.values(during)) expect(kind).not.toEqual([]);
    await driver.close();
    expect(await tracesOf(stateDir)).toEqual(NO_TRACES);

    const again = make();
    await again.open(() => undefined);
    expect(await again.inspect(machine.vmId)).toEqual({ ...machine, state: "stopped" });
    expect(await again.start(machine.vmId)).toEqual(machine);
    await again.close();
    expect(await tracesOf(stateDir)).toEqual(NO_TRACES);
  });

  it("of one system leaves another's machines running", async () => {
    const make = (name: string) =>
      createContainerDriver({ stateDir: join(scratch, name), cacheDir: CACHE_DIR, log: createLog(() => undefined) });
    const [first, second] = [make("first"), make("second")];
    await Promise.all([first.open(() => undefined), second.open(() => undefined)]);
    expect(first.gatewayAddress).not.toBe(second.gatewayAddress);
    await first.create({ vmId: newVmId(platformRandomBytes), files: [] });
    const kept = await second.create({ vmId: newVmId(platformRandomBytes), files: [] });
    await first.close();
    expect(await second.inspect(kept.vmId)).toEqual(kept);
    expect(await answers(kept.address)).toBe(true);
    await second.close();
    expect((await readFile("/proc/self/mountinfo", "utf8")).includes(scratch)).toBe(false);
  });
});
