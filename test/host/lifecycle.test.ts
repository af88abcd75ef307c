import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newVmId } from "../../protocol/ids.ts";
import { json, startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

describe("machines", () => {
  let host: TestHost;
  beforeAll(async () => {
    host = await startTestHost({ POSTERN_WAKE_TIMEOUT_MS: "5000", POSTERN_HOST_CAPACITY: "40" });
  }, 60_000);
  afterAll(() => host.close());

  const freshId = () => newVmId((length) => crypto.getRandomValues(new Uint8Array(length)));
  const act = async (vm: string, op: "start" | "stop" | "suspend") => {
    const answer = await host.request("POST", `/vms/${vm}/${op}`, { vm, op });
    return [answer.status, (await answer.json()) as { state?: string; kind?: string; at?: number }] as const;
  };
  const create = async (vm: string, body: object) => {
    const answer = await host.request("PUT", `/vms/${vm}`, { vm, op: "create" }, json(body));
    return [answer.status, (await answer.json()) as { state?: string; kind?: string; message?: string }] as const;
  };
  const read = async (vm: string) => {
    const answer = await host.request("GET", `/vms/${vm}`, { vm, op: "read" });
    return [answer.status, (await answer.json()) as { state?: string; kind?: string }] as const;
  };
  const shell = async (vm: string, command: string, user = "root") => {
    const answer = await host.exec(vm, user, { command });
    return [answer.status, ((await answer.json()) as { stdout?: string }).stdout] as const;
  };
  const reported = (vm: string) => host.edge.states.filter((told) => told.vm === vm);

  test("makes groups and users with home and login shell before create answers", async () => {
    const gecos = 'D\'Arcy $(reboot) `id` \\ "x"';
    const vm = await host.createVm({
      groups: [{ name: "crew", gid: 4321 }, { name: "daemon" }],
      users: [
        { name: "one", uid: 5001, gecos, groups: ["crew", "daemon"] },
        { name: "two", home: "/home/it's two", shell: "/bin/sh", system: true },
        { name: "crew" },
      ],
    });
    const [, passwd] = await shell(vm, "getent passwd one two crew");
    const [one, two, crew] = (passwd ?? "").split("\n").map((line) => line.split(":"));
    expect([one?.[2], one?.[4], one?.[5], one?.[6]]).toEqual(["5001", gecos, "/home/one", "/bin/bash"]);
    expect([two?.[5], two?.[6], Number(two?.[2]) < 1000]).toEqual(["/home/it's two", "/bin/sh", true]);
    expect(crew?.[3]).toBe("4321");
    expect(await shell(vm, "id -nG; pwd", "one")).toEqual([200, "one daemon crew\n/home/one\n"]);
    expect(await shell(vm, "pwd", "two")).toEqual([200, "/home/it's two\n"]);
  });

  test.each([
    ["a user named twice", { users: [{ name: "a" }, { name: "a" }] }, 400, "linux-user-duplicate"],
    ["a group named twice", { groups: [{ name: "a" }, { name: "a" }] }, 400, "vm-create-bad-request"],
    ["a colon in the comment", { users: [{ name: "a", gecos: "x:0:0" }] }, 400, "vm-create-bad-request"],
    ["a newline in the home", { users: [{ name: "a", home: "/home/a\nroot::0" }] }, 400, "vm-create-bad-request"],
    ["a name with shell characters", { users: [{ name: "a;id" }] }, 400, "bad-request"],
    ["a name that is an option", { users: [{ name: "--help" }] }, 400, "bad-request"],
    ["a relative home", { users: [{ name: "a", home: "home" }] }, 400, "bad-request"],
    ["a group with a comma", { users: [{ name: "a", groups: ["x,sudo"] }] }, 400, "bad-request"],
  ])("refuses %s before any machine is made", async (_what, body, status, kind) => {
    const before = host.driver.calls.create;
    const [answered, refusal] = await create(freshId(), body);
    expect([answered, refusal.kind, host.driver.calls.create]).toEqual([status, kind, before]);
  });

  test.each([
    ["a user of the image", { users: [{ name: "daemon" }] }, 409, "linux-user-exists"],
    ["a login shell that is no program", { users: [{ name: "new", shell: "/bin/none" }] }, 400, "vm-create-bad-request"],
    ["a group that is not there", { users: [{ name: "a", groups: ["no-such-group"] }] }, 400, "vm-create-bad-request"],
    ["a number that is taken", { users: [{ name: "a", uid: 1 }] }, 400, "vm-create-bad-request"],
    ["a known group with another number", { groups: [{ name: "daemon", gid: 4999 }] }, 400, "vm-create-bad-request"],
  ])("deletes the machine again when the guest refuses %s", async (_what, body, status, kind) => {
    const vm = freshId();
    const [answered, refusal] = await create(vm, body);
    expect([answered, refusal.kind]).toEqual([status, kind]);
    expect(await host.driver.inspect(vm)).toBe(null);
    expect((await read(vm))[0]).toBe(404);
    expect(readdirSync(join(host.stateDir, "vms"))).not.toContain(`${vm}.json`);
    expect(reported(vm)).toEqual([]);
  });

  test("creates once however often it is asked", async () => {
    const vm = freshId();
    const before = host.driver.calls.create;
    const answers = await Promise.all(Array.from({ length: 5 }, () => create(vm, { users: [{ name: "a" }] })));
    expect(answers.map(([status, body]) => [status, body.state])).toEqual(Array(5).fill([200, "running"]));
    expect((await create(vm, {}))[1].state).toBe("running");
    expect(host.driver.calls.create).toBe(before + 1);
  });

  test("leaves nothing of a machine that the driver could not make", async () => {
    const vm = freshId();
    host.driver.failing.add("create");
    const [status, body] = await create(vm, {});
    host.driver.failing.delete("create");
    expect([status, body.kind]).toEqual([500, "vm-start-failed"]);
    expect((await create(vm, {}))[1].state).toBe("running");
  });

  test("keeps its records to itself, without the guest's private key", async () => {
    const vm = await host.createVm();
    const path = join(host.stateDir, "vms", `${vm}.json`);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(path, "utf8")).not.toContain("PRIVATE");
  });

  test("goes through its states and reports them in rising time, the last one for certain", async () => {
    const vm = await host.createVm();
    expect((await act(vm, "suspend"))[1].state).toBe("suspended");
    expect((await act(vm, "start"))[1].state).toBe("running");
    expect((await act(vm, "stop"))[1].state).toBe("stopped");
    expect((await act(vm, "stop"))[1].state).toBe("stopped");
    expect((await act(vm, "start"))[1].state).toBe("running");
    expect((await act(vm, "start"))[1].state).toBe("running");
    const { at } = (await act(vm, "start"))[1];
    await until(() => reported(vm).at(-1)?.at === at, "the last state is reported");
    const told = reported(vm);
    expect(told.at(-1)?.state).toBe("running");
    // One that is over before the edge has noted the one before it may be left out; none comes twice or late.
    const all = ["running", "suspending", "suspended", "starting", "running", "stopped", "starting", "running"];
    let next = 0;
    for (const { state } of told) {
      next = all.indexOf(state, next) + 1;
      expect(next).toBeGreaterThan(0);
    }
    expect(told.map((state) => state.at)).toEqual(told.map((state) => state.at).toSorted((a, b) => a - b));
  });

  test("refuses to suspend a stopped VM", async () => {
    const vm = await host.createVm();
    await act(vm, "stop");
    const [status, body] = await act(vm, "suspend");
    expect([status, body.kind]).toEqual([409, "vm-not-running"]);
  });

  test("deletes a VM for good, and again without complaint", async () => {
    const vm = await host.createVm();
    for (let round = 0; round < 2; round += 1) {
      const answer = await host.request("DELETE", `/vms/${vm}`, { vm, op: "delete" });
      expect([answer.status, ((await answer.json()) as { state: string }).state]).toEqual([200, "missing"]);
    }
    expect((await read(vm))[0]).toBe(404);
    expect((await shell(vm, "true"))[0]).toBe(404);
  });

  test.each(["suspend", "stop"] as const)(
    "wakes a VM after %s once for everybody who asks at once",
    async (sleep) => {
      const vm = await host.createVm({ users: [{ name: "developer" }] });
      await act(vm, sleep);
      const before = host.driver.calls.start;
      const callers = Array.from({ length: 100 }, (_, index) => shell(vm, `echo ${index}`, index % 2 === 0 ? "root" : "developer"));
      const answers = await Promise.all(callers);
      expect(answers).toEqual(Array.from({ length: 100 }, (_, index) => [200, `${index}\n`]));
      expect(host.driver.calls.start).toBe(before + 1);
    },
    30_000,
  );

  test("wakes a VM to read a file", async () => {
    const vm = await host.createVm();
    await act(vm, "stop");
    const answer = await host.request("GET", `/vms/${vm}/files?path=/etc/hostname`, { vm, op: "files", user: "root" });
    expect(answer.status).toBe(200);
  });

  test("does not wake a VM to tell its state, nor for a ticket that is refused", async () => {
    const vm = await host.createVm();
    await act(vm, "suspend");
    const before = host.driver.calls.start;
    expect((await read(vm))[1].state).toBe("suspended");
    await host.request("POST", `/vms/${vm}/exec`, { vm, op: "read" }, json({ command: "true" }));
    expect(host.driver.calls.start).toBe(before);
  });

  test("notices a machine that died by itself and wakes it", async () => {
    const vm = await host.createVm();
    await shell(vm, "true");
    await host.driver.die(vm);
    // A command that may have begun when the connection broke is never repeated, so the first caller may be told to try again.
    await until(async () => (await shell(vm, "echo back"))[1] === "back\n", "the VM is back");
  });

  test("answers clearly when the host cannot suspend, and keeps the VM usable", async () => {
    const vm = await host.createVm();
    host.driver.failing.add("pause");
    const [status, body] = await act(vm, "suspend");
    host.driver.failing.delete("pause");
    expect([status, body.kind]).toEqual([503, "host-unavailable"]);
    expect((await shell(vm, "echo still"))[1]).toBe("still\n");
  });

  test.each([
    ["GET", "/vms/VM/nothing"],
    ["PATCH", "/vms/VM"],
    ["GET", "/"],
  ])("answers a failure in its own form to %s %s", async (method, path) => {
    const answer = await fetch(host.agent.url + path.replace("VM", freshId()), { method });
    expect([answer.status, ((await answer.json()) as { kind: string }).kind]).toEqual([404, "route-not-found"]);
  });

  test("echoes a trace id that is fit for a header and makes one otherwise", async () => {
    const vm = freshId();
    const ask = async (trace: string) => {
      const answer = await host.request("GET", `/vms/${vm}`, { vm, op: "read" }, { headers: { "x-freestyle-trace-id": trace } });
      return answer.headers.get("x-freestyle-trace-id");
    };
    expect(await ask("trace-1")).toBe("trace-1");
    expect(await ask("no spaces please")).toMatch(/^[0-9a-f-]{36}$/);
    expect(host.log.join("")).toContain('"trace":"trace-1"');
  });
});

describe("a host without room", () => {
  test("refuses another VM until one is deleted", async () => {
    const host = await startTestHost({ POSTERN_HOST_CAPACITY: "1" });
    try {
      const vm = await host.createVm();
      const other = "b".repeat(20);
      const answer = await host.request("PUT", `/vms/${other}`, { vm: other, op: "create" }, json({}));
      expect([answer.status, ((await answer.json()) as { kind: string }).kind]).toEqual([503, "no-capacity"]);
      await host.request("DELETE", `/vms/${vm}`, { vm, op: "delete" });
      await host.createVm();
    } finally {
      await host.close();
    }
  });
});
