import type { Client } from "ssh2";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TicketClaims } from "../../protocol/ticket.ts";
import { parseSshPublicKey } from "../../service/ssh-keys.ts";
import { json, startTestHost, type TestHost } from "./support/test-host.ts";
import { connectTunnel, logIn, newPair, runCommand, type TunnelAnswer, TypedShell } from "./support/tunnel-client.ts";
import { until } from "./support/until.ts";

let host: TestHost;
beforeAll(async () => {
  host = await startTestHost({ POSTERN_IDLE_SWEEP_MS: "100", POSTERN_IDLE_GLANCE_MS: "500", POSTERN_TUNNEL_HELD_BYTES: "4096" });
}, 60_000);
afterAll(() => host.close());

interface Session {
  readonly answer: TunnelAnswer;
  readonly client: Client;
  readonly ended: Promise<void>;
}

async function session(vm: string, claims: Partial<TicketClaims> = {}, own = newPair()): Promise<Session> {
  const answer = await connectTunnel(host, vm, claims, own.publicKey);
  const client = await logIn(answer, own, "root");
  client.on("error", () => undefined);
  const { socket } = answer;
  const ended = new Promise<void>((resolve) => {
    for (const event of ["end", "close"]) socket.once(event, () => resolve());
  });
  return { answer, client, ended };
}

const act = (vm: string, op: "suspend" | "stop" | "start") => host.request("POST", `/vms/${vm}/${op}`, { vm, op });
const stateOf = async (vm: string) =>
  ((await (await host.request("GET", `/vms/${vm}`, { vm, op: "read" })).json()) as { state: string }).state;
const whyEnded = async ({ answer }: Session) =>
  (await fetch(`${host.agent.url}/tunnel/end`, named(answer.headers["postern-tunnel"]))).json();
const named = (id = "") => ({ headers: { "postern-tunnel": id } });

test("an open session lives through its VM's sleep: what is typed meanwhile wakes the VM, and the same shell answers", async () => {
  const vm = await host.createVm();
  const { client } = await session(vm);
  const shell = await TypedShell.open(client);
  shell.type("kept=remembered; echo pid=$$.\n");
  const pid = await shell.shows(/pid=(\d+)\./);
  expect((await act(vm, "suspend")).status).toBe(200);
  expect(await stateOf(vm)).toBe("suspended");
  shell.type("echo again=$$. $kept\n");
  expect(await shell.shows(/again=(\d+)\. remembered/)).toBe(pid);
  expect(await stateOf(vm)).toBe("running");
  client.end();
});

test("many open sessions of one VM that are all typed into while it sleeps wake it once, and every one goes on", async () => {
  const vm = await host.createVm();
  const sessions = await Promise.all(Array.from({ length: 8 }, () => session(vm)));
  const shells = await Promise.all(sessions.map(({ client }) => TypedShell.open(client)));
  await act(vm, "suspend");
  const before = host.driver.calls.start;
  for (const [index, shell] of shells.entries()) shell.type(`echo heard-$((${index} + 100)).\n`);
  await Promise.all(shells.map((shell, index) => shell.shows(new RegExp(`(heard-${index + 100})\\.`))));
  expect(host.driver.calls.start).toBe(before + 1);
  for (const { client } of sessions) client.end();
});

test("more than may be held while the VM sleeps waits at the client, and none of it is lost", async () => {
  const vm = await host.createVm();
  const { client } = await session(vm);
  const bytes = Buffer.alloc(3_000_000, "0123456789abcde\n");
  const counted = new Promise<string>((resolve, reject) => {
    client.exec("wc -c", (error, channel) => {
      if (error) return reject(error);
      let text = "";
      channel.on("data", (data: Buffer) => {
        text += data.toString();
      });
      channel.on("close", () => resolve(text));
      void act(vm, "suspend").then(() => channel.end(bytes));
    });
  });
  expect((await counted).trim()).toBe(String(bytes.length));
  client.end();
});

test("a VM is put to sleep by idleness under its open sessions, and a client that leaves meanwhile does not wake it", async () => {
  const vm = await host.createVm();
  const { client, answer } = await session(vm);
  await runCommand(client, "sleep 1000 >/dev/null 2>&1 & echo started");
  await host.request("PUT", `/vms/${vm}/idle`, { vm, op: "update" }, json({ idleTimeoutSeconds: 1, activityThresholdBytes: null }));
  await until(async () => (await stateOf(vm)) === "suspended", "it sleeps by itself");
  const before = host.driver.calls.start;
  answer.socket.destroy();
  await until(
    () => host.log.some((line) => line.includes("tunnel peer broke") || line.includes("tunnel closed")) || answer.socket.closed,
    "it left",
  );
  expect(await stateOf(vm)).toBe("suspended");
  expect(host.driver.calls.start).toBe(before);
  await act(vm, "start");
  await until(
    () => host.log.some((line) => line.includes("tunnel closed") && line.includes(vm)),
    "its end reaches the guest once it is awake",
  );
});

test("bytes of a session that ends in the guest wake it for a moment only: they may be a keepalive", async () => {
  const vm = await host.createVm();
  const own = newPair();
  const fingerprint = parseSshPublicKey(own.publicKey)?.fingerprint ?? "";
  const { client } = await session(vm, { cnf: { ssh: fingerprint } }, own);
  await host.request("PUT", `/vms/${vm}/idle`, { vm, op: "update" }, json({ idleTimeoutSeconds: 3, activityThresholdBytes: null }));
  await until(async () => (await stateOf(vm)) === "suspended", "it sleeps by itself");
  const before = performance.now();
  expect(await runCommand(client, "echo awake")).toBe("awake\n");
  await until(async () => (await stateOf(vm)) === "suspended", "it sleeps again");
  expect(performance.now() - before).toBeLessThan(3_000);
  client.end();
});

test.each([
  ["stopped", "The VM was stopped."],
  ["deleted", "The VM was deleted."],
])("a VM that is %s, awake or asleep, ends its sessions, and their forwarders can learn why", async (how, reason) => {
  for (const asleep of [false, true]) {
    const vm = await host.createVm();
    const open = await session(vm);
    if (asleep) await act(vm, "suspend");
    if (how === "stopped") await act(vm, "stop");
    else await host.request("DELETE", `/vms/${vm}`, { vm, op: "delete" });
    await open.ended;
    expect(await whyEnded(open)).toEqual({ reason });
  }
});

test("a VM that cannot be woken for what was typed ends the session with the reason, and the next try starts clean", async () => {
  const vm = await host.createVm();
  const open = await session(vm);
  const shell = await TypedShell.open(open.client);
  await act(vm, "suspend");
  host.driver.failing.add("start");
  shell.type("echo lost\n");
  await open.ended;
  host.driver.failing.delete("start");
  expect(await whyEnded(open)).toEqual({ reason: expect.stringContaining("could not be started") });
  const next = await session(vm);
  expect(await runCommand(next.client, "echo back")).toBe("back\n");
  next.client.end();
});

test("a VM that cannot be put to sleep goes on with its sessions as if nobody had asked", async () => {
  const vm = await host.createVm();
  const { client } = await session(vm);
  const shell = await TypedShell.open(client);
  host.driver.failing.add("pause");
  expect((await act(vm, "suspend")).status).toBe(503);
  host.driver.failing.delete("pause");
  const before = host.driver.calls.start;
  shell.type("echo on=$((40 + 2)).\n");
  expect(await shell.shows(/on=(42)\./)).toBe("42");
  expect(host.driver.calls.start).toBe(before);
  client.end();
});

test("a VM does not sleep while somebody types, however little, and an id that is no open tunnel's keeps nothing awake", async () => {
  const vm = await host.createVm();
  const { answer, client } = await session(vm);
  const use = (id: string | undefined) => fetch(`${host.agent.url}/tunnel/use`, { method: "POST", ...named(id) });
  await host.request("PUT", `/vms/${vm}/idle`, { vm, op: "update" }, json({ idleTimeoutSeconds: 1, activityThresholdBytes: null }));
  const started = performance.now();
  while (performance.now() - started < 2_500) {
    expect((await use(answer.headers["postern-tunnel"])).status).toBe(204);
    expect(await stateOf(vm)).toBe("running");
  }
  expect((await use("AAAAAAAAAAAAAAAAAAAAAA")).status).toBe(404);
  await until(async () => (await stateOf(vm)) === "suspended", "it sleeps when nobody types");
  client.end();
});

test("nobody learns why a tunnel ended by an id that is not one", async () => {
  for (const id of ["AAAAAAAAAAAAAAAAAAAAAA", ""]) {
    expect(await (await fetch(`${host.agent.url}/tunnel/end`, named(id))).json()).toEqual({ reason: null });
  }
});
