import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startHostAgent } from "../../host/agent.ts";
import { readHostSettings } from "../../host/settings.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { createLog } from "../../service/log.ts";
import { JoinRefused } from "../../service/membership.ts";
import { SettingsError } from "../../service/settings.ts";
import { TestDriver } from "./support/test-driver.ts";
import { SUBJECT, startTestEdge, type TestEdge } from "./support/test-edge.ts";
import { startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

describe("host agent", () => {
  let host: TestHost;
  beforeEach(async () => {
    host = await startTestHost({ POSTERN_STATES_RETRY_MS: "20" });
  });
  afterEach(() => host.close());

  const reports = (vm: string) => host.edge.states.filter((told) => told.vm === vm).map(({ state }) => state);
  const run = async (vm: string) => {
    const answer = await host.exec(vm, "root", { command: "echo here" });
    return ((await answer.json()) as { stdout?: string }).stdout;
  };

  test("keeps its id and its VMs over a restart, and reports them to its region", async () => {
    const vm = await host.createVm();
    const id = host.agent.id;
    await host.restart(() => host.edge.states.splice(0));
    expect(host.agent.id).toBe(id);
    await until(() => reports(vm).includes("stopped"), "the VM is reported");
    expect(await run(vm)).toBe("here\n");
  });

  test("tells nothing of its VMs anew after its feed broke, so that a deploy brings no rush of it", async () => {
    const vm = await host.createVm();
    await until(() => reports(vm).at(-1) === "running", "the VM is reported");
    const before = host.edge.states.length;
    host.edge.cut();
    const loads = () => host.edge.received.filter(({ type }) => type === "host-load").length;
    const told = loads();
    await until(() => loads() > told, "it has joined again");
    // What comes after a message that was sent later than the welcome was not sent because of it.
    const next = await host.createVm();
    await until(() => reports(next).at(-1) === "running", "another VM is reported");
    expect(host.edge.states.slice(before).filter((state) => state.vm === vm)).toEqual([]);
  });

  test.each<[string, readonly string[] | null]>([
    ["gives no usable answer", null],
    ["could not pass it on", ["all"]],
  ])("tells a state again that the edge did not note since it %s", async (_what, answer) => {
    let tries = 0;
    host.edge.onStates = ({ states }) => {
      tries += 1;
      return answer === null ? null : states.map((state) => state.vm);
    };
    const vm = await host.createVm();
    await until(() => tries >= 1, "it was told");
    expect(reports(vm)).toEqual([]);
    host.edge.onStates = () => [];
    await until(() => reports(vm).at(-1) === "running", "it was told again");
  });

  test("undoes at its start what was only half made when it died", async () => {
    const vm = await host.createVm();
    const path = join(host.stateDir, "vms", `${vm}.json`);
    await host.restart(() => {
      writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, "utf8")) as object), phase: "creating" }));
    });
    expect([await host.driver.inspect(vm), existsSync(path)]).toEqual([null, false]);
    expect((await host.exec(vm, "root", { command: "true" })).status).toBe(404);
  });

  test("says that a VM is missing whose machine vanished", async () => {
    const vm = await host.createVm();
    await host.driver.delete(vm);
    await host.restart(() => host.edge.states.splice(0));
    await until(() => reports(vm).includes("missing"), "the VM is reported");
  });

  test("ends what runs, stops every machine and says so before it leaves", async () => {
    const vm = await host.createVm();
    const call = host.exec(vm, "root", { command: "sleep 4716" });
    await until(async () => (await run(vm)) === "here\n", "the VM answers");
    await host.agent.close();
    expect((await call).status).toBeGreaterThanOrEqual(400);
    await until(() => reports(vm).at(-1) === "stopped", "the stop was reported");
    expect(host.driver.calls.close).toBe(1);
    await host.agent.close();
    expect(host.driver.calls.close).toBe(1);
  });

  test("refuses every ticket of a withdrawn key at once, and takes those of the key that replaced it", async () => {
    const vm = await host.createVm();
    const exec = () => host.exec(vm, "root", { command: "true" });
    const old = host.edge.kid;
    await host.edge.replaceKey();
    host.edge.send({ type: "keys-voided", kids: [old] });
    await until(async () => (await exec()).status === 200, "the new key is known");
    const voided = await host.edge.ticketOfFirstKey(host.agent.id, { vm, op: "read" });
    const answer = await fetch(`${host.agent.url}/vms/${vm}`, { headers: { authorization: `Bearer ${voided}` } });
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ kind: "stale-authority", details: { voidedKey: true } });
  });

  test("refuses a ticket from below a floor that the feed brought", async () => {
    const vm = await host.createVm();
    host.edge.send({ type: "floor", floor: { sub: SUBJECT, epoch: 2, at: Date.now() } });
    await until(async () => (await host.exec(vm, "root", { command: "true" })).status === 401, "the floor took effect");
    const answer = await host.request("GET", `/vms/${vm}`, { vm, op: "read", epoch: 2 });
    expect(answer.status).toBe(200);
  });
});

describe("a host agent that cannot start", () => {
  let edge: TestEdge;
  let dir: string;
  beforeEach(async () => {
    edge = await startTestEdge();
    dir = mkdtempSync(join(tmpdir(), "postern-host-"));
  });
  afterEach(async () => {
    await edge.close();
    rmSync(dir, { recursive: true });
  });

  function start(driver: TestDriver, serviceKey: string, more: { edgeUrl?: string; signal?: AbortSignal } = {}) {
    const keyFile = join(dir, "key");
    writeFileSync(keyFile, serviceKey);
    const env = { POSTERN_EDGE_URL: more.edgeUrl ?? edge.url, POSTERN_SERVICE_KEY_FILE: keyFile, POSTERN_HOST_STATE: dir };
    return startHostAgent({
      settings: readHostSettings(env),
      driver,
      log: createLog(() => undefined),
      clock: Date.now,
      randomBytes: platformRandomBytes,
      ...(more.signal === undefined ? {} : { signal: more.signal }),
    });
  }

  test("undoes what it began when its service key is refused", async () => {
    const driver = new TestDriver(2222);
    await expect(start(driver, "wrong")).rejects.toThrow(JoinRefused);
    expect(driver.calls.close).toBe(1);
  });

  test("gives up and undoes what it began when it is told to while the edge is away", async () => {
    const driver = new TestDriver(2222);
    const stop = new AbortController();
    const starting = start(driver, "any", { edgeUrl: "http://127.0.0.1:9", signal: stop.signal });
    stop.abort();
    await expect(starting).rejects.toThrow();
    expect(driver.calls.close).toBe(1);
  });

  test("does not take another id when its own is damaged", async () => {
    writeFileSync(join(dir, "host-id"), "nonsense");
    await expect(start(new TestDriver(2222), "any")).rejects.toThrow("does not hold a host id");
  });

  test("names every wrong setting at once", () => {
    const read = () => readHostSettings({ POSTERN_EDGE_URL: "nowhere", POSTERN_HOST_STATE: dir, POSTERN_HOST_CAPACITY: "-1" });
    expect(read).toThrow(SettingsError);
    expect(read).toThrow(/POSTERN_EDGE_URL.*POSTERN_SERVICE_KEY_FILE.*POSTERN_HOST_CAPACITY/);
  });
});
