/**
 * A host agent with containers that lives on while its engine is killed: for each operation and each step of it in turn, all operations
 * run at once, each on a machine of its own, and the engine is killed when that one is at that step. Says in a line of JSON what came
 * of each round, and waits until its parent has looked. argv: state directory, and how many rounds to go on by.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import type { Driver, DriverState } from "../../host/driver.ts";
import { createContainerDriver } from "../../host/drivers/container.ts";
import { processesWith } from "../../host/drivers/leftovers.ts";
import { podmanHome } from "../../host/drivers/podman-home.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { createLog } from "../../service/log.ts";
import { CACHE_DIR } from "./guest-world.ts";
import { meetAt, nameSteps, stepsOf } from "./named-steps.ts";

interface Way {
  readonly from: DriverState | null;
  readonly to: DriverState | null;
  readonly run: (driver: Driver, vmId: string) => Promise<unknown>;
}

const files = [{ path: "/etc/seeded", mode: 0o600, content: "seed" }];
/** A snapshot's id is its machine's here. */
const WAYS: Readonly<Record<string, Way>> = {
  create: { from: null, to: "running", run: (driver, vmId) => driver.create({ vmId, files }) },
  start: { from: "stopped", to: "running", run: (driver, vmId) => driver.start(vmId) },
  wake: { from: "paused", to: "running", run: (driver, vmId) => driver.start(vmId) },
  pause: { from: "running", to: "paused", run: (driver, vmId) => driver.pause(vmId) },
  stop: { from: "running", to: "stopped", run: (driver, vmId) => driver.stop(vmId) },
  snapshot: { from: "running", to: "running", run: (driver, vmId) => driver.snapshot(vmId, vmId) },
  delete: { from: "running", to: null, run: (driver, vmId) => driver.delete(vmId) },
};
/** Programs that are killed: the service alone, what it runs for each machine, or everything. */
const VICTIMS = [/(^|\/)podman$/, /(^|\/)(conmon|runc)$/, /(^|\/)(podman|conmon|runc)$/];
/** After the step has begun, milliseconds: at once, and in the middle of it. */
const DELAYS_MS = [0, 20];
/** Longer than any operation takes whose engine was killed, and far shorter than the engine's own time limit, milliseconds. */
const SETTLE_MS = 40_000;
const BACK_MS = 20_000;
const POLL_MS = 50;

const [stateDir = "", stride = "1"] = process.argv.slice(2);
const looked = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function say(report: object): Promise<void> {
  console.log(JSON.stringify(report));
  await looked.next();
}

const driver = createContainerDriver({ stateDir, cacheDir: CACHE_DIR, log: createLog(() => undefined) });
await driver.open(() => undefined);
const home = await podmanHome(stateDir);
const disks = () => readdirSync(join(stateDir, "containers", "storage", "overlay")).sort();
const disksBefore = disks();
const machines = Object.entries(WAYS).map(([name, way]) => ({ name, way, vmId: newVmId(platformRandomBytes) }));
type Subject = (typeof machines)[number];

async function prepare({ way, vmId }: Subject): Promise<void> {
  const state = (await driver.inspect(vmId))?.state ?? null;
  if (state === way.from) return;
  if (way.from === null) return driver.delete(vmId);
  if (state === null) await driver.create({ vmId, files });
  else await driver.start(vmId);
  if (way.from === "paused") await driver.pause(vmId);
  if (way.from === "stopped") await driver.stop(vmId);
}

async function killEngine(programs: RegExp): Promise<void> {
  const ours = (word: string) => word.includes(`${home.runDir}/`) || word.includes(`${home.diskDir}/`);
  for (const pid of await processesWith((argv) => programs.test(argv[0] ?? "") && argv.some(ours))) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended meanwhile.
    }
  }
}

async function engineIsBack(): Promise<void> {
  const until = performance.now() + BACK_MS;
  for (;;) {
    try {
      await driver.list();
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
      await delay(POLL_MS);
    }
  }
}

nameSteps(/[a-z0-9]{20}/);
await Promise.all(machines.map(prepare));
const counts = new Map<Subject, number>();
for (const subject of machines) counts.set(subject, (await stepsOf(() => subject.way.run(driver, subject.vmId))).length);

const rounds = machines.flatMap((subject) =>
  Array.from({ length: counts.get(subject) ?? 0 }, (_, index) => ({ subject, at: index + 1 })),
);
for (let round = 0; round < rounds.length; round += z.coerce.number().parse(stride)) {
  const { subject, at } = rounds[round] ?? z.never().parse(round);
  await driver.deleteSnapshot(machines.find(({ name }) => name === "snapshot")?.vmId ?? "");
  await Promise.all(machines.map(prepare));
  const programs = VICTIMS[round % VICTIMS.length] ?? /$^/;
  let killing = Promise.resolve();
  const meet = () => {
    killing = delay(DELAYS_MS[round % DELAYS_MS.length]).then(() => killEngine(programs));
  };
  const before = performance.now();
  const outcomes = machines.map(async (one) => {
    const run = () => one.way.run(driver, one.vmId);
    const settled = (one === subject ? meetAt(at, meet, run) : run()).then(
      () => "done",
      () => "failed",
    );
    return [one.name, await Promise.race([settled, delay(SETTLE_MS, "hung")])] as const;
  });
  const became = Object.fromEntries(await Promise.all(outcomes));
  const tookMs = Math.round(performance.now() - before);
  await killing;
  await engineIsBack();
  const found = Object.fromEntries(
    await Promise.all(machines.map(async ({ name, vmId }) => [name, (await driver.inspect(vmId))?.state ?? null])),
  );
  const retried = machines.map(async ({ name, way, vmId }) => {
    // What was done to a machine that runs is done again once it does.
    if (way.from === "running" && (await driver.inspect(vmId)) !== null) await driver.start(vmId);
    await way.run(driver, vmId);
    const machine = await driver.inspect(vmId);
    return [name, { state: machine?.state ?? null, address: machine?.address ?? "", expected: way.to }] as const;
  });
  await say({
    round: `${subject.name} ${at} ${programs.source}`,
    became,
    tookMs,
    found,
    retried: Object.fromEntries(await Promise.all(retried)),
  });
}
await Promise.all(machines.map(({ vmId }) => driver.deleteSnapshot(vmId)));
await Promise.all(machines.map(({ vmId }) => driver.delete(vmId)));
await say({ disksBefore, disksAfter: disks() });
await driver.close();
process.exit();
