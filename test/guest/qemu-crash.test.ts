import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import type { DriverState } from "../../host/driver.ts";
import { removeLeftovers } from "../../host/drivers/leftovers.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { eventually, run } from "./guest-world.ts";
import { type CrashCase, OPERATIONS, type Operation, WAYS } from "./qemu-operations.ts";
import { NO_TRACES, tracesOf } from "./traces.ts";

const machine = z.object({ vmId: z.string(), state: z.enum(["running", "paused", "stopped"]), address: z.string() }).nullable();
const report = z.union([
  z.object({ steps: z.array(z.string()) }),
  z.object({ retried: machine }),
  z.object({ became: z.enum(["done", "failed", "hung"]).optional(), found: machine }),
]);
const FILES = ["console.log", "disk.qcow2", "machine.json", "seed"];

const whole = (operation: Operation): CrashCase => ({ operation, step: 0, mode: "whole" });

/** A crash at the step of that name. */
function at(operation: Operation, name: string, mode: CrashCase["mode"]): CrashCase {
  const step = WAYS[operation].steps.indexOf(name) + 1;
  if (step === 0) throw new Error(`${operation} has no step "${name}"`);
  return { operation, step, mode };
}

/** Crashes of every kind at every step. */
function everyCrash(operation: Operation): readonly CrashCase[] {
  const modes = ["before", "amid", "qemu"] as const;
  return WAYS[operation].steps.flatMap((_, index) => modes.map((mode) => ({ operation, step: index + 1, mode })));
}

describe("a virtual machine whose agent or QEMU is killed at a step of create, start, wake, pause, stop, resize, snapshot or delete", () => {
  let scratch: string;
  let stateDir: string;
  let agent: ChildProcess | null = null;
  const vmId = newVmId(platformRandomBytes);
  const snapshotId = newVmId(platformRandomBytes);

  beforeEach(async () => {
    scratch = await mkdtemp(join(tmpdir(), "postern-qemu-crash-"));
    stateDir = join(scratch, "state");
  });
  afterEach(async () => {
    if (agent !== null && agent.exitCode === null && agent.signalCode === null) {
      const exit = once(agent, "exit");
      agent.kill("SIGKILL");
      await exit;
    }
    await removeLeftovers(stateDir);
    await rm(scratch, { recursive: true, force: true });
  });

  /** Nothing but what belongs to a machine in this state is there: process, interface and files. */
  const expectOnly = async (one: CrashCase, state: DriverState | null) => {
    const processes = async () => (await tracesOf(stateDir)).processes.filter((line) => line.includes(vmId)).length;
    const shown = `${one.operation} ${one.step} ${one.mode}`;
    await eventually(`${shown}: ${state} has its processes`, async () => (await processes()) === (state === "running" ? 1 : 0));
    // The bridge's own is always there.
    expect([shown, (await tracesOf(stateDir)).links.length]).toEqual([shown, state === "running" ? 2 : 1]);
    const dir = join(stateDir, "machines", vmId);
    const files = existsSync(dir) ? readdirSync(dir).sort() : [];
    const expected = state === null ? [] : [...FILES, ...(state === "paused" ? ["memory"] : [])].sort();
    expect([shown, ...files]).toEqual([shown, ...expected]);
    expect([shown, ...readdirSync(join(stateDir, "disks"))]).toEqual([
      shown,
      ...(one.operation === "snapshot" ? [`${snapshotId}.qcow2`] : []),
    ]);
  };

  /** Nothing listens on port 1, so a guest whose network works refuses at once. One that boots takes its time. */
  const expectAnswer = (address: string) =>
    eventually(
      "the guest answers",
      async () => (await run("bash", ["-c", `timeout 2 bash -c 'exec 3<>/dev/tcp/${address}/1'`])).stderr.includes("refused"),
      60_000,
    );

  /** Goes through the cases, in as many lives of an agent as they take. */
  const survive = async (cases: readonly CrashCase[]) => {
    let rest = cases;
    let owed: CrashCase | null = null;
    for (;;) {
      const args = [
        join(import.meta.dirname, "qemu-life.ts"),
        stateDir,
        vmId,
        snapshotId,
        JSON.stringify(owed),
        JSON.stringify(rest),
      ];
      const life = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
      agent = life;
      const ended = once(life, "exit");
      let current: CrashCase | null = owed;
      for await (const line of createInterface(life.stdout)) {
        const said = report.parse(JSON.parse(line));
        if ("found" in said && said.became !== undefined) [current, rest] = [rest[0] ?? null, rest.slice(1)];
        if ("steps" in said) {
          const { operation } = rest[0] ?? whole("create");
          expect([operation, ...said.steps]).toEqual([operation, ...WAYS[operation].steps]);
          rest = rest.slice(1);
        } else if (current === null) throw new Error("nothing was under way");
        else if ("retried" in said) {
          const { to } = WAYS[current.operation];
          expect([current, said.retried?.state ?? null]).toEqual([current, to]);
          await expectOnly(current, to);
          if (said.retried?.state === "running") await expectAnswer(said.retried.address);
        } else if (current.mode === "qemu") expect([current, said.became]).not.toEqual([current, "hung"]);
        else {
          // Only by its own crash: an agent that got past the step would say so.
          expect([current, said.became]).toEqual([current, undefined]);
          expect(WAYS[current.operation].amid).toContain(said.found?.state ?? null);
          const dir = join(stateDir, "machines", vmId);
          expect([current, existsSync(dir) ? readdirSync(dir) : []]).not.toEqual([current, expect.arrayContaining(["memory.new"])]);
        }
        life.stdin.write("looked\n");
      }
      const [status, signal] = await ended;
      owed = rest[0] ?? null;
      if (owed === null && status === 0) break;
      expect([owed, status, signal]).toEqual([owed, null, "SIGKILL"]);
      rest = rest.slice(1);
    }
    expect(readdirSync(join(stateDir, "machines"))).toEqual([]);
    expect(await tracesOf(stateDir)).toEqual(NO_TRACES);
  };

  it(
    "is in a state that the API names, leaves nothing behind, and the retry succeeds; of each operation every step is known",
    () =>
      survive([
        ...[whole("create"), whole("snapshot"), whole("pause"), whole("wake")],
        at("pause", "qmp migrate", "amid"),
        at("wake", "rm memory", "amid"),
        at("wake", "qmp migrate-incoming", "qemu"),
        at("snapshot", "cp", "amid"),
        ...[whole("stop"), whole("resize"), whole("start"), whole("delete")],
        at("create", "guest adopt", "amid"),
        at("delete", "rm disk.qcow2", "amid"),
      ]),
    300_000,
  );

  // All of them, a boot of another size included, take virtual machines without KVM most of an hour.
  if (process.env.POSTERN_TEST_QEMU === "full") {
    it.each(OPERATIONS)("at every step of: %s", (operation) => survive([whole(operation), ...everyCrash(operation)]), 1_800_000);
  }
});
