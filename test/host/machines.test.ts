import { beforeAll, describe, expect, it } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { json, startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

const OWNER = "account:aaaaaaaaaaaaaaaa";
const STRANGER = "account:bbbbbbbbbbbbbbbb";
const [SNAPSHOT, OTHER_SNAPSHOT, ABSENT] = ["s", "t", "u"].map((letter) => letter.repeat(20)) as [string, string, string];

let host: TestHost;
beforeAll(async () => {
  host = await startTestHost({ POSTERN_IDLE_SWEEP_MS: "50" });
  return () => host.close();
});

const newId = () => newVmId(platformRandomBytes);
const create = (vm: string, body: object, sub = OWNER) =>
  host.request("PUT", `/vms/${vm}`, { vm, op: "create", sub: sub as never }, json(body));
const ask = async (method: string, vm: string, suffix: string, op: string, body?: object, sub = OWNER) => {
  const claims = { vm, op: op as never, sub: sub as never };
  const answer = await host.request(method, `/vms/${vm}${suffix}`, claims, body === undefined ? {} : json(body));
  return { status: answer.status, json: (await answer.json()) as Record<string, unknown> };
};
/** A VM that no test changes. */
let shared: Promise<string> | undefined;
const aVm = () => (shared ??= host.createVm());
const refusal = (kind: string) => expect.objectContaining({ kind });

describe("sizes", () => {
  it("are passed to the driver, shown, and kept over what was not named", async () => {
    const vm = newId();
    const made = await create(vm, { resources: { cpu: 1 } });
    expect(await made.json()).toMatchObject({ state: "running", resources: { cpu: 1, memory: 1024 } });
    expect(host.driver.specs.get(vm)?.resources).toEqual({ cpu: 1 });
    expect((await ask("POST", vm, "/resize", "resize", { memory: 2048 })).json).toMatchObject({
      resources: { cpu: 1, memory: 2048 },
    });
    expect((await ask("GET", vm, "", "read")).json).toMatchObject({ resources: { cpu: 1, memory: 2048 } });
  });

  it("that the driver cannot give are refused by name, and no machine is made or changed", async () => {
    const vm = newId();
    const made = await create(vm, { resources: { storage: 10 } });
    expect(made.status).toBe(400);
    expect(await made.json()).toMatchObject({ kind: "vm-create-bad-request", message: expect.stringContaining("storage") });
    expect(host.driver.specs.has(vm)).toBe(false);
    const there = await host.createVm();
    const before = host.driver.resized.length;
    const resized = await ask("POST", there, "/resize", "resize", { storage: 10 });
    expect(resized).toEqual({ status: 400, json: refusal("resize-bad-request") });
    expect(host.driver.resized.length).toBe(before);
  });

  it.each([{ cpu: 0 }, { cpu: 1.5 }, { memory: 1 }, { memory: "2048" }])("%j are refused", async (resources) => {
    expect((await create(newId(), { resources })).status).toBe(400);
    expect((await ask("POST", await aVm(), "/resize", "resize", resources)).status).toBe(400);
  });

  it("of a VM that is not here are not found", async () => {
    expect(await ask("POST", newId(), "/resize", "resize", { cpu: 1 })).toEqual({ status: 404, json: refusal("vm-not-found") });
  });

  it("that the driver fails to give are no success, and are not shown", async () => {
    const vm = await host.createVm();
    host.driver.failing.add("resize");
    const resized = await ask("POST", vm, "/resize", "resize", { cpu: 1 });
    host.driver.failing.delete("resize");
    expect(resized).toEqual({ status: 500, json: refusal("resize-failed") });
    expect((await ask("GET", vm, "", "read")).json).toMatchObject({ resources: { cpu: 2 } });
  });
});

describe("files of a new machine", () => {
  it("are there with their bytes and mode before create answers", async () => {
    const vm = newId();
    const bytes = Buffer.from([0, 255, 10, 128]);
    const files = [
      { path: "/root/deep/er/data", content: bytes.toString("base64") },
      { path: "/root/run it", content: Buffer.from("#!/bin/sh\necho ran\n").toString("base64"), executable: true },
    ];
    expect((await create(vm, { files })).status).toBe(200);
    const shown = await host.exec(vm, "root", {
      command: "base64 /root/deep/er/data; stat -c '%a %U' /root/deep/er/data; '/root/run it'",
    });
    expect(await shown.json()).toMatchObject({ stdout: `${bytes.toString("base64")}\n644 root\nran\n` });
  });

  it.each([
    ["a relative path", [{ path: "x", content: "" }]],
    ["content that is no base64", [{ path: "/x", content: "%" }]],
    ["a directory's path", [{ path: "/root/", content: "" }]],
    ["NUL in a path", [{ path: "/root/a\0b", content: "" }]],
    [
      "one path twice",
      [
        { path: "/root/x", content: "" },
        { path: "/root/x", content: "" },
      ],
    ],
    ["a path that is a directory in the guest", [{ path: "/etc", content: "" }]],
    ["a path below a file", [{ path: "/etc/passwd/x", content: "" }]],
  ])("with %s are refused, and no machine stays", async (_what, files) => {
    const vm = newId();
    expect((await create(vm, { files })).status).toBe(400);
    expect(await host.driver.inspect(vm)).toBeNull();
  });
});

describe("snapshots", () => {
  it("are taken once, and a machine of the same account begins with one", async () => {
    const vm = await host.createVm();
    const taken = host.driver.calls.snapshot;
    expect(await ask("POST", vm, "/snapshots", "snapshot", { snapshotId: SNAPSHOT })).toEqual({ status: 200, json: {} });
    expect(await ask("POST", vm, "/snapshots", "snapshot", { snapshotId: SNAPSHOT })).toEqual({ status: 200, json: {} });
    expect(host.driver.calls.snapshot).toBe(taken + 2);
    expect(host.driver.snapshots.has(SNAPSHOT)).toBe(true);
    const clone = newId();
    expect((await create(clone, { snapshotId: SNAPSHOT })).status).toBe(200);
    expect(host.driver.specs.get(clone)?.snapshotId).toBe(SNAPSHOT);
    const keys = [vm, clone].map((id) => host.driver.specs.get(id)?.files.map((file) => file.content));
    expect(keys[0]).not.toEqual(keys[1]);
  });

  it("of another account, or of nobody, do not exist", async () => {
    for (const [snapshotId, sub] of [
      [SNAPSHOT, STRANGER],
      [ABSENT, OWNER],
    ] as const) {
      const vm = newId();
      const made = await create(vm, { snapshotId }, sub);
      expect(made.status).toBe(404);
      expect(await made.json()).toMatchObject({ kind: "snapshot-not-found" });
      expect(host.driver.specs.has(vm)).toBe(false);
    }
  });

  it("cannot be taken again for another VM or account", async () => {
    const vm = await aVm();
    expect((await ask("POST", vm, "/snapshots", "snapshot", { snapshotId: SNAPSHOT })).json).toEqual(refusal("conflict"));
    expect((await ask("POST", vm, "/snapshots", "snapshot", { snapshotId: SNAPSHOT }, STRANGER)).json).toEqual(refusal("conflict"));
  });

  it("that the driver could not take leave nothing", async () => {
    const vm = await host.createVm();
    host.driver.failing.add("snapshot");
    const failed = await ask("POST", vm, "/snapshots", "snapshot", { snapshotId: OTHER_SNAPSHOT });
    host.driver.failing.delete("snapshot");
    expect(failed).toEqual({ status: 500, json: refusal("snapshot-failed") });
    expect((await create(newId(), { snapshotId: OTHER_SNAPSHOT })).status).toBe(404);
  });

  it("are deleted through their own VM only, and deleting one twice is no error", async () => {
    const vm = await host.createVm();
    await ask("POST", vm, "/snapshots", "snapshot", { snapshotId: OTHER_SNAPSHOT });
    const other = await host.createVm();
    const wrong = await ask("DELETE", other, `/snapshots/${OTHER_SNAPSHOT}`, "snapshot");
    expect(wrong).toEqual({ status: 404, json: refusal("snapshot-not-found") });
    expect(host.driver.snapshots.has(OTHER_SNAPSHOT)).toBe(true);
    for (let time = 0; time < 2; time += 1) {
      expect(await ask("DELETE", vm, `/snapshots/${OTHER_SNAPSHOT}`, "snapshot")).toEqual({ status: 200, json: {} });
    }
    expect(host.driver.snapshots.has(OTHER_SNAPSHOT)).toBe(false);
  });

  it.each(["..", "../../vms", "S".repeat(20), "x", 1, null])("are never named %j", async (snapshotId) => {
    expect((await ask("POST", await aVm(), "/snapshots", "snapshot", { snapshotId })).status).toBe(400);
  });

  it("need a ticket for snapshots", async () => {
    const vm = await aVm();
    for (const op of ["exec", "delete", "create", "read"]) {
      const user = op === "exec" ? "root" : null;
      const claims = { vm, op: op as never, user };
      expect((await host.request("POST", `/vms/${vm}/snapshots`, claims, json({ snapshotId: ABSENT }))).status).toBe(401);
    }
  });
});

describe("an idle machine", () => {
  const state = async (vm: string) => (await ask("GET", vm, "", "read")).json.state;

  it("is suspended by itself when its time is up, and wakes with the next command", async () => {
    const vm = newId();
    expect((await create(vm, { idleTimeoutSeconds: 1 })).status).toBe(200);
    await until(async () => (await state(vm)) === "suspended", "it sleeps");
    expect((await host.exec(vm, "root", { command: "echo awake" })).status).toBe(200);
    expect(await state(vm)).toBe("running");
  });

  it("stays awake as long as a command runs, and is told at any time when to sleep", async () => {
    const vm = await host.createVm();
    const running = host.exec(vm, "root", { command: "sleep 2" });
    await ask("PUT", vm, "/idle", "update", { idleTimeoutSeconds: 1, activityThresholdBytes: null });
    expect(await (await running).json()).toMatchObject({ statusCode: 0 });
    await until(async () => (await state(vm)) === "suspended", "it sleeps");
  });

  it("is not woken by being told when to sleep", async () => {
    const vm = await host.createVm();
    await ask("POST", vm, "/suspend", "suspend");
    await ask("PUT", vm, "/idle", "update", { idleTimeoutSeconds: null, activityThresholdBytes: null });
    expect(await state(vm)).toBe("suspended");
  });

  it.each([{ idleTimeoutSeconds: 0 }, { idleTimeoutSeconds: -1 }, { activityThresholdBytes: 0 }])(
    "is never told %j",
    async (policy) => {
      expect((await ask("PUT", await aVm(), "/idle", "update", policy)).status).toBe(400);
    },
  );
});
