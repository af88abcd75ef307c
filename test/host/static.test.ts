import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Driver, DriverError, type DriverErrorCode } from "../../host/driver.ts";
import { createStaticDriver } from "../../host/drivers/static/static.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { createLog } from "../../service/log.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { ExistingMachine } from "./support/static-machine.ts";
import { nextAddress } from "./support/test-driver.ts";
import { json, startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

const PORT = 2022;
const SETTINGS = { connectMs: 3_000, keepaliveMs: 1_000, wakeCommandMs: 3_000, wakeMs: 8_000, wakePollMs: 50 };

let dir: string;
let configFile: string;
let agentKey: string;
let vm: string;
let machine: ExistingMachine;
const opened: Driver[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "postern-static-"));
  configFile = join(dir, "machines.json");
  const pair = generateSshKeyPair(platformRandomBytes);
  agentKey = pair.publicKey;
  writeFileSync(join(dir, "static-key"), pair.privateKey, { mode: 0o600 });
  writeFileSync(join(dir, "static-key.pub"), `${pair.publicKey}\n`);
  vm = newVmId(platformRandomBytes);
  machine = new ExistingMachine(agentKey, nextAddress(), PORT);
});
afterEach(async () => {
  for (const driver of opened.splice(0)) await driver.close();
  await machine.close();
  rmSync(dir, { recursive: true, force: true });
});

const entry = (change: object = {}) => ({
  vmId: vm,
  address: machine.address,
  port: PORT,
  hostKey: machine.hostKey.publicKey,
  ...change,
});
const configure = (...machines: object[]) => writeFileSync(configFile, JSON.stringify({ machines }));
const makeDriver = (settings: Partial<typeof SETTINGS> = {}) =>
  createStaticDriver({
    stateDir: dir,
    configFile,
    settings: { ...SETTINGS, ...settings },
    randomBytes: platformRandomBytes,
    log: createLog(() => undefined),
  });
const openDriver = async (settings: Partial<typeof SETTINGS> = {}) => {
  const driver = makeDriver(settings);
  opened.push(driver);
  await driver.open(() => undefined);
  return driver;
};
const errorOf = async (work: Promise<unknown>): Promise<DriverError> => {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof DriverError)) throw new Error(`not a DriverError: ${String(error)}`);
  return error;
};
const codeOf = async (work: Promise<unknown>): Promise<DriverErrorCode> => (await errorOf(work)).code;

describe("a static host", () => {
  let host: TestHost;
  const startHost = async () => {
    const driver = makeDriver();
    host = await startTestHost({}, driver);
  };
  afterEach(() => host.close());
  const register = (body: object = {}) => host.request("PUT", `/vms/${vm}`, { vm, op: "create" }, json(body));
  const ask = async (method: string, suffix: string, op: string, body?: object) => {
    const answer = await host.request(method, `/vms/${vm}${suffix}`, { vm, op: op as never }, body === undefined ? {} : json(body));
    return { status: answer.status, json: (await answer.json()) as Record<string, unknown> };
  };
  const run = async (user: string, command: string) =>
    (await (await host.exec(vm, user, { command })).json()) as { stdout: string };

  it("takes a machine up as it is, and runs commands in it as root and as others", async () => {
    configure(entry());
    await machine.up();
    await startHost();
    expect(await (await register()).json()).toMatchObject({ state: "running", resources: {} });
    expect((await run("root", "whoami")).stdout).toBe("root\n");
    await run("root", "useradd --create-home --shell /bin/bash dora");
    expect((await run("dora", "id -un; cat /etc/ssh/ssh_host_ed25519_key 2>&1 | head -c 4")).stdout).toBe("dora\ncat:");
  });

  it("wakes it once for many callers, and again after it went down by itself", async () => {
    configure(entry({ wake: await machine.wakeCommand() }));
    await startHost();
    expect((await register()).status).toBe(200);
    expect(machine.wakes).toBe(1);
    await machine.stop();
    const answers = await Promise.all(Array.from({ length: 10 }, () => run("root", "echo here")));
    expect(answers.map((answer) => answer.stdout)).toEqual(Array(10).fill("here\n"));
    expect(machine.wakes).toBe(2);
  });

  it("refuses by a known code what it cannot do, and the machine goes on", async () => {
    configure(entry());
    await machine.up();
    await startHost();
    await register();
    const refused = { status: 400, json: { kind: "unsupported", message: expect.stringContaining("existing machine") } };
    expect(await ask("POST", "/suspend", "suspend")).toEqual(refused);
    expect(await ask("POST", "/stop", "stop")).toEqual(refused);
    expect(await ask("POST", "/snapshots", "snapshot", { snapshotId: "s".repeat(20) })).toEqual(refused);
    expect(await ask("POST", "/resize", "resize", { memory: 1024 })).toMatchObject({ json: { kind: "resize-bad-request" } });
    expect((await run("root", "echo alive")).stdout).toBe("alive\n");
  });

  it("makes no machine: a VM that its file does not name is refused", async () => {
    configure(entry());
    await startHost();
    const other = newVmId(platformRandomBytes);
    const answer = await host.request("PUT", `/vms/${other}`, { vm: other, op: "create" }, json({}));
    expect({ status: answer.status, body: await answer.json() }).toMatchObject({ status: 400, body: { kind: "unsupported" } });
  });

  it("lets a deleted one go: it runs on, and no key of ours opens it any more", async () => {
    configure(entry());
    await machine.up();
    await startHost();
    await register();
    await run("root", "echo still >/root/here");
    expect(await ask("DELETE", "", "delete")).toMatchObject({ status: 200, json: { state: "missing" } });
    expect((await host.exec(vm, "root", { command: "true" })).status).toBe(404);
    expect((await register()).status).toBe(200);
    expect((await run("root", "cat /root/here")).stdout).toBe("still\n");
  });

  it("is taken up again by the next agent", async () => {
    configure(entry());
    await machine.up();
    await startHost();
    await register();
    await host.restart();
    expect((await run("root", "echo again")).stdout).toBe("again\n");
  });
});

describe("the driver static", () => {
  it("makes the agent's key once, the private half for its owner only", async () => {
    configure(entry());
    for (const name of ["static-key", "static-key.pub"]) rmSync(join(dir, name));
    await openDriver();
    const made = readFileSync(join(dir, "static-key"), "utf8");
    expect(statSync(join(dir, "static-key")).mode & 0o777).toBe(0o600);
    await openDriver();
    expect(readFileSync(join(dir, "static-key"), "utf8")).toBe(made);
  });

  it("talks to no machine with another host key than the pinned one, and does not wake it", async () => {
    configure(entry({ hostKey: generateSshKeyPair(platformRandomBytes).publicKey, wake: await machine.wakeCommand() }));
    await machine.up();
    const driver = await openDriver();
    expect(await codeOf(driver.start(vm))).toBe("host-key");
    expect(machine.wakes).toBe(0);
    expect(await driver.inspect(vm)).toMatchObject({ state: "stopped" });
  });

  it("says where its key must be put when the machine refuses it", async () => {
    configure(entry());
    writeFileSync(join(dir, "static-key"), generateSshKeyPair(platformRandomBytes).privateKey);
    await machine.up();
    const driver = await openDriver();
    const error = await errorOf(driver.start(vm));
    expect([error.code, error.message]).toEqual(["login", expect.stringContaining("/root/.ssh/authorized_keys")]);
  });

  it("says that a machine without a wake command does not answer", async () => {
    configure(entry());
    expect(await codeOf((await openDriver()).start(vm))).toBe("unreachable");
  });

  it.each([
    ["fails", ["false"], "status 1"],
    ["cannot be run", ["/nonexistent/wake"], "could not be run"],
    ["does not end", ["sleep", "60"], "did not end within 300 ms"],
    ["is no shell's", ["true; touch /tmp/never"], "could not be run"],
  ])("says that a wake command %s", async (_what, wake, words) => {
    configure(entry({ wake }));
    const driver = await openDriver({ wakeCommandMs: 300 });
    const error = await errorOf(driver.start(vm));
    expect([error.code, error.message]).toEqual(["wake", expect.stringContaining(words)]);
  });

  it("gives up on a machine that does not answer in time after its wake command", async () => {
    configure(entry({ wake: ["true"] }));
    expect(await codeOf((await openDriver({ wakeMs: 200 })).start(vm))).toBe("unreachable");
  });

  it("knows a machine by its connection alone, and nobody once that has ended", async () => {
    configure(entry());
    const driver = await openDriver();
    expect(driver.vmAtAddress("127.83.0.1")).toBeNull();
    await machine.up();
    expect(await driver.start(vm)).toMatchObject({ state: "running", port: PORT });
    expect(driver.vmAtAddress("127.83.0.1")).toBe(vm);
    await machine.stop();
    await until(async () => driver.vmAtAddress("127.83.0.1") === null, "the connection is known to have ended");
    expect(await driver.inspect(vm)).toMatchObject({ state: "stopped" });
  });

  it.each([
    ["that is missing", null, "cannot be read"],
    ["that is no JSON", "machines: []", "cannot be read"],
    ["with a wrong id", { machines: [{ vmId: "short", address: "a", hostKey: "" }] }, "machines.0.vmId"],
    ["with a key of another kind", { machines: [{ vmId: "v".repeat(20), address: "a", hostKey: "ssh-rsa AAAA" }] }, "hostKey"],
    ["with a member that it does not know", { machines: [], users: [] }, "users"],
  ])("refuses a file %s and says what is wrong", async (_what, content, words) => {
    if (content !== null) writeFileSync(configFile, typeof content === "string" ? content : JSON.stringify(content));
    const error = await errorOf(makeDriver().open(() => undefined));
    expect([error.code, error.message]).toEqual(["config", expect.stringContaining(words)]);
  });

  it("refuses a file that names a VM twice", async () => {
    configure(entry(), entry({ port: 23 }));
    expect((await errorOf(makeDriver().open(() => undefined))).message).toContain("twice");
  });
});
