/**
 * One life of a host agent: opens the driver on the state directory of argv, finishes what its predecessor was killed in, makes ready
 * for the next death, says what it saw in one line of JSON, and is killed with every operation at its step of that number. When no
 * operation has so many steps, it deletes everything, closes, and ends.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createContainerDriver } from "../../host/drivers/container.ts";
import { processLog } from "../../service/log.ts";
import { holdSteps, walkTo } from "./crash-steps.ts";
import { CACHE_DIR } from "./guest-world.ts";

const [stateDir = "", stepText = "1", vmIdsJson = "[]"] = process.argv.slice(2);
const step = Number(stepText);
const [starting = "", waking = "", pausing = "", stopping = "", capturing = "", ...made]: string[] = JSON.parse(vmIdsJson);
/** The one made in this life; the one made in the life before, which is deleted in this one; and the one deleted there. */
const [creating = "", deleting = "", deleted = ""] = [made[step], made[step - 1], made[step - 2]];
const snapshotOf = (life: number) => `${made[life]}`;
/** How long an operation may wait for another that is held with the firewall in its hands, milliseconds. */
const HELD_UP_MS = 3_000;
/** Within a step's time, so that the engine dies at work, milliseconds. */
const AMID_MS = 10;

const driver = createContainerDriver({ stateDir, cacheDir: CACHE_DIR, log: processLog("fixture") });
await driver.open(() => undefined);
const disks = () => readdirSync(join(stateDir, "containers", "storage", "overlay"));
const say = (report: object) => console.log(JSON.stringify(report));

if (step === 1) {
  const disksBefore = disks();
  await Promise.all([starting, waking, pausing, stopping, capturing, deleting].map((vmId) => driver.create({ vmId, files: [] })));
  say({ disksBefore });
} else {
  const found = await driver.list();
  const retried = await Promise.all([
    driver.create({ vmId: deleting, files: [] }),
    driver.start(starting),
    driver.start(waking),
    driver.pause(pausing),
    driver.stop(stopping),
    driver.snapshot(capturing, snapshotOf(step - 1)).then(() => driver.start(capturing)),
    driver.delete(deleted).then(() => driver.inspect(deleted)),
  ]);
  say({ found, retried });
  // The parent looks at the network of what runs, and says when it has.
  await new Promise((resolve) => process.stdin.once("data", resolve));
}
await Promise.all([
  driver.stop(starting),
  driver.pause(waking),
  driver.start(pausing),
  driver.start(stopping),
  driver.deleteSnapshot(snapshotOf(step - 1)),
]);

await holdSteps(join(stateDir, `silent${step}`));
const operations = [
  () => driver.create({ vmId: creating, files: [{ path: "/etc/seeded", mode: 0o600, content: "seed" }] }),
  () => driver.start(starting),
  () => driver.start(waking),
  () => driver.pause(pausing),
  () => driver.stop(stopping),
  () => driver.snapshot(capturing, snapshotOf(step)),
  () => driver.delete(deleting),
];
const there = operations.map((operation, index) => walkTo(step, (index + step) % 2 === 0 ? "before" : "amid", operation));
const some = await Promise.race([Promise.all(there), delay(HELD_UP_MS)]);
if (some?.every((held) => !held) !== true) {
  await delay(AMID_MS);
  process.kill(process.pid, "SIGKILL");
}
await driver.deleteSnapshot(snapshotOf(step));
await Promise.all((await driver.list()).map(({ vmId }) => driver.delete(vmId)));
say({ disksAfter: disks() });
await driver.close();
process.exit();
