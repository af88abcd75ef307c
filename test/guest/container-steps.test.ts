import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it, onTestFinished } from "vitest";
import { z } from "zod";
import { removeLeftovers } from "../../host/drivers/leftovers.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { eventually, run } from "./guest-world.ts";
import { NO_TRACES, tracesOf } from "./traces.ts";

const machine = z.object({ vmId: z.string(), state: z.enum(["running", "paused", "stopped"]), address: z.string() });
const report = z.object({
  disksBefore: z.array(z.string()).optional(),
  disksAfter: z.array(z.string()).optional(),
  found: z.array(machine).optional(),
  retried: z.array(machine.nullable()).optional(),
});
/** More lives than an operation has steps; the last one says that there are no more. */
const MOST_LIVES = 40;

/** Whether the guest's network answers; nothing listens on port 1, so a live guest refuses at once. */
const answers = async (address: string) =>
  (await run("bash", ["-c", `timeout 2 bash -c 'exec 3<>/dev/tcp/${address}/1'`])).stderr.includes("refused");

describe("host agent and engine killed at each step of create, start, wake, pause, stop, snapshot and delete", () => {
  it("leave machines in states that the API names, nothing behind, and nothing in the way of a retry", async () => {
    const scratch = await mkdtemp(join(tmpdir(), "postern-steps-"));
    const stateDir = join(scratch, "state");
    onTestFinished(async () => {
      await removeLeftovers(stateDir);
      await rm(scratch, { recursive: true, force: true });
    });
    const vmIds = Array.from({ length: 5 + MOST_LIVES }, () => newVmId(platformRandomBytes));
    let disksBefore: readonly string[] = [];
    for (let step = 1; ; step += 1) {
      expect(step).toBeLessThan(MOST_LIVES);
      const fixture = join(import.meta.dirname, "crash-fixture.ts");
      const agent = spawn(process.execPath, [fixture, stateDir, String(step), JSON.stringify(vmIds)], {
        stdio: ["pipe", "pipe", "inherit"],
      });
      const ended = once(agent, "exit");
      let disksAfter: readonly string[] | undefined;
      for await (const line of createInterface(agent.stdout)) {
        const said = report.parse(JSON.parse(line));
        disksBefore = said.disksBefore ?? disksBefore;
        disksAfter = said.disksAfter;
        if (said.retried === undefined) continue;
        const states = said.retried.map((each) => each?.state ?? null);
        expect([step, ...states]).toEqual([step, "running", "running", "running", "paused", "stopped", "running", null]);
        for (const each of said.retried) {
          if (each?.state === "running") expect([step, each, await answers(each.address)]).toEqual([step, each, true]);
        }
        agent.stdin.write("looked\n");
      }
      const [status, signal] = await ended;
      if (disksAfter === undefined) {
        expect([step, status, signal]).toEqual([step, null, "SIGKILL"]);
        continue;
      }
      expect(status).toBe(0);
      expect(step).toBeGreaterThan(8);
      expect([...disksAfter].sort()).toEqual([...disksBefore].sort());
      break;
    }
    await eventually("nothing is left", async () => (await tracesOf(stateDir)).processes.length === 0);
    expect(await tracesOf(stateDir)).toEqual(NO_TRACES);
  }, 300_000);
});
