/**
 * One life of a host agent with virtual machines: opens the driver on the state directory of argv, finishes what its predecessor was
 * killed in, and goes on with the cases until one kills it. Says what it saw in lines of JSON, and waits after each until its parent
 * has looked. When there are no more cases, it deletes everything, closes, and ends.
 */
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { createQemuDriver } from "../../host/drivers/qemu/qemu.ts";
import { DEFAULT_QEMU_SETTINGS } from "../../host/drivers/qemu/settings.ts";
import { createLog } from "../../service/log.ts";
import { CACHE_DIR } from "./guest-world.ts";
import { meetAt, nameSteps, stepsOf, walkTo } from "./named-steps.ts";
import { type CrashCase, crashCase, prepare, WAYS } from "./qemu-operations.ts";

const [stateDir = "", vmId = "", snapshotId = "", owedJson = "null", casesJson = "[]"] = process.argv.slice(2);
const owed = crashCase.nullable().parse(JSON.parse(owedJson));
const cases = z.array(crashCase).parse(JSON.parse(casesJson));
/** Within a step's time, so that it is cut short, milliseconds. */
const AMID_MS = 10;
const POLL_MS = 20;
/** Longer than a request to QEMU may take. */
const SETTLE_MS = DEFAULT_QEMU_SETTINGS.requestMs + 10_000;

const looked = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function say(report: object): Promise<void> {
  console.log(JSON.stringify(report));
  await looked.next();
}

// Ended rather than asked to end, so that a stop always has the same steps.
const settings = { ...DEFAULT_QEMU_SETTINGS, stopGraceMs: 0, syncMs: 1_000 };
const driver = createQemuDriver({ stateDir, cacheDir: CACHE_DIR, log: createLog(() => undefined), settings });
await driver.open(() => undefined);
nameSteps(/[a-z0-9]{20}/);

const run = ({ operation }: CrashCase) => WAYS[operation].run(driver, vmId, snapshotId);
const lookAt = () => driver.inspect(vmId);

async function retry(one: CrashCase): Promise<void> {
  await run(one);
  const machine = await lookAt();
  await say({ retried: machine });
  if (one.operation === "snapshot") await driver.deleteSnapshot(snapshotId);
}

/** The machine's QEMUs, those that were killed and still end included. */
function qemus(): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && commandLine(name).includes(vmId))
    .map(Number);
}

function commandLine(pid: string): readonly string[] {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return words[0] === "qemu-system-x86_64" ? words : [];
  } catch {
    return [];
  }
}

/** Kills the machine's QEMUs. Answers those that it found. */
function killQemus(): readonly number[] {
  const found = qemus();
  for (const pid of found) process.kill(pid, "SIGKILL");
  return found;
}

if (owed !== null) {
  await say({ found: await lookAt() });
  await retry(owed);
}
for (const one of cases) {
  await prepare(driver, one.operation, vmId);
  if (one.mode === "whole") {
    await say({ steps: await stepsOf(() => run(one)) });
    if (one.operation === "snapshot") await driver.deleteSnapshot(snapshotId);
  } else if (one.mode === "qemu") {
    let killed: readonly number[] = [];
    const meet = () => {
      killed = killQemus();
    };
    const settled = meetAt(one.step, meet, () => run(one)).then(
      () => "done",
      () => "failed",
    );
    const became = await Promise.race([settled, delay(SETTLE_MS, "hung")]);
    while (qemus().some((pid) => killed.includes(pid))) await delay(POLL_MS);
    await say({ became, found: await lookAt() });
    // What was done to a machine that runs is done again once it does.
    if (WAYS[one.operation].from === "running" && (await lookAt()) !== null) await driver.start(vmId);
    await retry(one);
  } else if (await walkTo(one.step, one.mode, () => run(one))) {
    await delay(AMID_MS);
    process.kill(process.pid, "SIGKILL");
  } else await say({ became: "done", found: await lookAt() });
}
await driver.delete(vmId);
await driver.close();
process.exit();
