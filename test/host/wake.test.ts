import type { AddressInfo } from "node:net";
import { createServer, type Server } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DiskRoom } from "../../host/disk-room.ts";
import type { Driver, DriverState, Machine } from "../../host/driver.ts";
import { DriverError } from "../../host/driver.ts";
import { IdleWatch } from "../../host/idle.ts";
import { ManagedMachine } from "../../host/machine.ts";
import type { MachineStatus } from "../../protocol/host-api.ts";
import { createLog } from "../../service/log.ts";
import { until } from "./support/until.ts";

const VM = "a".repeat(20);

/** A driver of one machine whose steps wait until the test lets them go on. */
class SteppedDriver implements Driver {
  readonly name = "stepped";
  readonly gatewayAddress = "127.0.0.1";
  readonly calls: string[] = [];
  state: DriverState | null = "stopped";
  gate: Promise<void> = Promise.resolve();
  failure: Error | null = null;

  async open(): Promise<void> {}
  async routeMetadata(): Promise<void> {}
  async close(): Promise<void> {}
  readonly defaultResources = {};
  refuses(): null {
    return null;
  }
  async resize(): Promise<void> {}
  async snapshot(): Promise<void> {}
  async deleteSnapshot(): Promise<void> {}
  vmAtAddress(): null {
    return null;
  }
  async list(): Promise<readonly Machine[]> {
    return [];
  }
  async inspect(): Promise<Machine | null> {
    return this.state === null ? null : { vmId: VM, state: this.state, address: "127.0.0.1" };
  }
  create(): Promise<Machine> {
    return this.#step("create", "running");
  }
  start(): Promise<Machine> {
    return this.#step("start", "running");
  }
  pause(): Promise<Machine> {
    return this.#step("pause", "paused");
  }
  stop(): Promise<Machine> {
    return this.#step("stop", "stopped");
  }
  async delete(): Promise<void> {
    await this.#step("delete", "stopped");
    this.state = null;
  }

  async #step(name: string, state: DriverState): Promise<Machine> {
    this.calls.push(name);
    await this.gate;
    if (this.failure !== null) throw this.failure;
    this.state = state;
    return { vmId: VM, state, address: "127.0.0.1" };
  }
}

const RESERVE_MIB = 100;

describe("wake", () => {
  let sshd: Server;
  let driver: SteppedDriver;
  let states: MachineStatus[];
  let draining: boolean;
  let freeMib: number;
  beforeEach(async () => {
    sshd = createServer((socket) => socket.end("SSH-2.0-test\r\n"));
    await new Promise<void>((resolve) => sshd.listen(0, "127.0.0.1", resolve));
    driver = new SteppedDriver();
    states = [];
    draining = false;
    freeMib = 2 * RESERVE_MIB;
  });
  afterEach(() => new Promise((resolve) => sshd.close(resolve)));

  const machine = (state: DriverState = "stopped", timeoutMs = 5_000) =>
    new ManagedMachine(VM, "ssh-ed25519 AAAA", state, {
      driver,
      clock: () => 1_000,
      log: createLog(() => undefined),
      ready: { timeoutMs, pollMs: 1 },
      sshPort: (sshd.address() as AddressInfo).port,
      disk: new DiskRoom({
        dir: "/",
        reserveMib: RESERVE_MIB,
        log: createLog(() => undefined),
        reserveFiles: 0,
        look: async () => ({ bytes: freeMib * 1024 ** 2, files: 1 }),
      }),
      isDraining: () => draining,
      onState: (_vm, status) => states.push(status),
    });
  const gate = () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    driver.gate = promise;
    return resolve;
  };
  const outcome = (result: { ok: true } | { ok: false; failure: { kind: string } }) =>
    result.ok ? "running" : result.failure.kind;

  test.each(["stopped", "paused"] as const)("starts a %s machine once for 500 callers", async (state) => {
    driver.state = state;
    const vm = machine(state);
    const open = gate();
    const early = Array.from({ length: 250 }, () => vm.wake());
    await until(() => driver.calls.length > 0, "the start is under way");
    const late = Array.from({ length: 250 }, () => vm.wake());
    open();
    const results = await Promise.all([...early, ...late]);
    expect(new Set(results.map(outcome))).toEqual(new Set(["running"]));
    expect(driver.calls).toEqual(["start"]);
  });

  test("does not start a machine that runs", async () => {
    const vm = machine();
    await vm.wake();
    await Promise.all(Array.from({ length: 100 }, () => vm.wake()));
    expect(driver.calls).toEqual(["start"]);
  });

  test("gives every caller of a failed wake the same error, and the next caller a clean start", async () => {
    const vm = machine();
    driver.failure = new DriverError("engine", "no");
    const open = gate();
    const callers = Array.from({ length: 50 }, () => vm.wake());
    open();
    expect(new Set((await Promise.all(callers)).map(outcome))).toEqual(new Set(["vm-start-failed"]));
    expect(driver.calls).toEqual(["start"]);
    driver.failure = null;
    expect(outcome(await vm.wake())).toBe("running");
    expect(driver.calls).toEqual(["start", "start"]);
  });

  test("is refused by a host that is being emptied, which lets what runs go on until it sleeps", async () => {
    const vm = machine();
    await vm.wake();
    draining = true;
    expect(outcome(await vm.wake())).toBe("running");
    await vm.suspend();
    expect([outcome(await vm.wake()), vm.status().state]).toEqual(["host-draining", "suspended"]);
    draining = false;
    expect(outcome(await vm.wake())).toBe("running");
  });

  test("is refused while the disk is full, which lets what runs go on, until there is room again", async () => {
    const vm = machine();
    await vm.wake();
    freeMib = RESERVE_MIB - 1;
    expect(outcome(await vm.wake())).toBe("running");
    await vm.suspend();
    expect([outcome(await vm.wake()), vm.status().state]).toEqual(["host-disk-full", "suspended"]);
    expect((await vm.delete()).ok).toBe(true);
    const other = machine();
    freeMib = RESERVE_MIB;
    expect(outcome(await other.wake())).toBe("running");
  });

  test("says so when the sshd does not answer in time", async () => {
    await new Promise((resolve) => sshd.close(resolve));
    sshd = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    await new Promise<void>((resolve) => sshd.listen(0, "127.0.0.1", resolve));
    expect(outcome(await machine("stopped", 50).wake())).toBe("vm-start-timeout");
  });

  test("says so when the driver no longer knows the machine", async () => {
    const vm = machine();
    driver.failure = new DriverError("no-such-machine", "gone");
    expect(outcome(await vm.wake())).toBe("vm-start-failed");
    expect([vm.status().state, outcome(await vm.wake())]).toEqual(["missing", "vm-not-found"]);
  });

  test("lets a wake that arrives during a suspend run after it", async () => {
    const vm = machine();
    await vm.wake();
    const open = gate();
    const suspended = vm.suspend();
    await until(() => driver.calls.includes("pause"), "the suspend is under way");
    const woken = vm.wake();
    open();
    expect((await suspended).ok).toBe(true);
    expect(outcome(await woken)).toBe("running");
    expect(driver.calls).toEqual(["start", "pause", "start"]);
    expect(vm.status().state).toBe("running");
  });

  test("does not put a VM to sleep that a call has begun to use since it was found idle, and loses neither", async () => {
    let now = 1_000;
    const idle = new IdleWatch(() => now, { tunnelBytes: 1, glanceMs: 0 });
    idle.setPolicy(VM, { idleTimeoutSeconds: 1, activityThresholdBytes: null });
    const vm = machine();
    await vm.wake();
    now += 1_000;
    expect(idle.sweep()).toEqual([VM]);
    const busy = Promise.withResolvers<void>();
    void vm.atRest(() => busy.promise);
    const asleep = vm.suspendIf(() => idle.isIdle(VM));
    const end = idle.begin(VM);
    const woken = vm.wake();
    busy.resolve();
    await asleep;
    expect([outcome(await woken), vm.status().state, driver.calls]).toEqual(["running", "running", ["start"]]);
    end();
    now += 1_000;
    await vm.suspendIf(() => idle.isIdle(VM));
    expect(vm.status().state).toBe("suspended");
  });

  test("lets a suspend that arrives during a wake run after it", async () => {
    const vm = machine();
    const open = gate();
    const woken = vm.wake();
    const suspended = vm.suspend();
    open();
    await woken;
    expect((await suspended).ok).toBe(true);
    expect([driver.calls, vm.status().state]).toEqual([["start", "pause"], "suspended"]);
  });

  test("tells whatever uses the machine that it goes down, before it does", async () => {
    const vm = machine();
    const running = await vm.wake();
    if (!running.ok) throw new Error("did not wake");
    const open = gate();
    const stopped = vm.stop();
    await until(() => driver.calls.includes("stop"), "the stop is under way");
    expect(running.value.down.aborted).toBe(true);
    open();
    await stopped;
  });

  test("orders its reports by time even when the clock stands still", async () => {
    const vm = machine();
    await vm.wake();
    await vm.suspend();
    await vm.wake();
    await vm.stop();
    const times = states.map((status) => status.at);
    expect(times).toEqual([...new Set(times)].sort((a, b) => a - b));
  });

  test("does not wake a machine that is being deleted", async () => {
    const vm = machine();
    await vm.wake();
    const deleted = vm.delete();
    const woken = vm.wake();
    await deleted;
    await woken;
    expect(outcome(await vm.wake())).toBe("vm-not-found");
    expect(driver.calls).toEqual(["start", "delete"]);
  });
});
