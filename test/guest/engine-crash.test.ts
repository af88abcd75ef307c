import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, it, onTestFinished } from "vitest";
import { z } from "zod";
import { removeLeftovers } from "../../host/drivers/leftovers.ts";
import { eventually, run } from "./guest-world.ts";
import { NO_TRACES, tracesOf } from "./traces.ts";

const state = z.enum(["running", "paused", "stopped"]).nullable();
const report = z.union([
  z.object({
    round: z.string(),
    became: z.record(z.string(), z.enum(["done", "failed", "hung"])),
    found: z.record(z.string(), state),
    retried: z.record(z.string(), z.object({ state, address: z.string(), expected: state })),
  }),
  z.object({ disksBefore: z.array(z.string()), disksAfter: z.array(z.string()) }),
]);
/** Every so many rounds; all of them, some seventy, take minutes: `npm run test:engine`. */
const STRIDE = process.env.POSTERN_TEST_ENGINE === "full" ? 1 : 7;
/** A machine that ran and was not to be ended runs on, or is as the operation wants it. */
const FOUND: Readonly<Record<string, readonly (string | null)[]>> = {
  create: [null, "running"],
  start: ["stopped", "running"],
  wake: ["paused", "running"],
  pause: ["running", "paused"],
  stop: ["running", "stopped"],
  snapshot: ["running"],
  delete: ["running", "stopped", null],
};

/** Nothing listens on port 1, so a guest whose network works refuses at once. */
const answers = async (address: string) =>
  (await run("bash", ["-c", `timeout 2 bash -c 'exec 3<>/dev/tcp/${address}/1'`])).stderr.includes("refused");

it("an engine that is killed at a step of any operation, its service, its monitors or all of it, hangs nothing, loses no machine, leaves nothing behind, and is retried with success by the agent that lives on", async () => {
  const scratch = await mkdtemp(join(tmpdir(), "postern-engine-"));
  const stateDir = join(scratch, "state");
  const args = [join(import.meta.dirname, "engine-life.ts"), stateDir, String(STRIDE)];
  const agent: ChildProcess = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(agent, "exit");
  onTestFinished(async () => {
    agent.kill("SIGKILL");
    await ended;
    await removeLeftovers(stateDir);
    await rm(scratch, { recursive: true, force: true });
  });
  let rounds = 0;
  for await (const line of createInterface(agent.stdout ?? process.stdin)) {
    const said = report.parse(JSON.parse(line));
    if ("disksBefore" in said) expect(said.disksAfter).toEqual(said.disksBefore);
    else {
      rounds += 1;
      const hung = Object.entries(said.became).filter(([, how]) => how === "hung");
      expect([said.round, hung]).toEqual([said.round, []]);
      for (const [name, found] of Object.entries(said.found)) expect([said.round, name, ...(FOUND[name] ?? [])]).toContain(found);
      for (const [name, retried] of Object.entries(said.retried)) {
        expect([said.round, name, retried.state]).toEqual([said.round, name, retried.expected]);
        if (retried.state === "running")
          expect([said.round, name, await answers(retried.address)]).toEqual([said.round, name, true]);
      }
    }
    agent.stdin?.write("looked\n");
  }
  expect(await ended).toEqual([0, null]);
  expect(rounds).toBeGreaterThan(40 / STRIDE);
  await eventually("nothing is left", async () => (await tracesOf(stateDir)).processes.length === 0);
  expect(await tracesOf(stateDir)).toEqual(NO_TRACES);
}, 600_000);
