import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { DriverError } from "../../host/driver.ts";
import { runCommand } from "../../host/network/run-command.ts";

describe("a command", () => {
  let runs: string;
  beforeEach(async () => {
    const scratch = await mkdtemp(join(tmpdir(), "postern-run-"));
    runs = join(scratch, "runs");
    onTestFinished(() => rm(scratch, { recursive: true }));
  });

  /** Counts its run, then ends by `how` up to the given run, and well from then on. */
  const until = (wellAt: number, how: string) => ["-c", `echo >>"$0"; [ $(wc -l <"$0") -ge ${wellAt} ] || ${how}; cat`, runs];
  const counted = async () => (await readFile(runs, "utf8")).length;

  it("that may be repeated is run again, with its input, when a signal ended it", async () => {
    const answer = await runCommand("network", "sh", until(3, "kill -SEGV $$"), { input: "rules", repeatable: true });
    expect([answer, await counted()]).toEqual(["rules", 3]);
  });

  it("that takes longer than it may is killed, and that is its failure", async () => {
    await expect(runCommand("engine", "sleep", ["infinity"], { timeoutMs: 50 })).rejects.toThrow("SIGKILL");
  });

  it("that crashes every time fails in the end, and names the signal", async () => {
    const ended = runCommand("network", "sh", until(9, "kill -SEGV $$"), { repeatable: true });
    await expect(ended).rejects.toThrow("SIGSEGV");
    expect(await counted()).toBe(3);
  });

  it("that refuses is not asked again", async () => {
    const ended = runCommand("network", "sh", until(2, "exit 4"), { repeatable: true });
    await expect(ended).rejects.toThrow("exit 4");
    expect(await counted()).toBe(1);
  });

  it("that may not be repeated is run once, however it ends", async () => {
    await expect(runCommand("network", "sh", until(2, "kill -SEGV $$"))).rejects.toThrow("SIGSEGV");
    expect(await counted()).toBe(1);
  });

  it("that is not there fails by name", async () => {
    const ended = runCommand("engine", "no-such-command", ["x"], { repeatable: true });
    await expect(ended).rejects.toBeInstanceOf(DriverError);
    await expect(ended).rejects.toThrow("no-such-command x");
  });
});
