import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { freePort } from "../system/ports.ts";
import { startTestHost, type TestHost } from "./support/test-host.ts";
import { until } from "./support/until.ts";

let host: TestHost;
let metricsPort: number;
beforeAll(async () => {
  metricsPort = await freePort();
  host = await startTestHost({ POSTERN_HOST_METRICS_LISTEN: `127.0.0.1:${metricsPort}`, POSTERN_LOAD_SWEEP_MS: "20" });
}, 60_000);
afterAll(() => host.close());

const metrics = async () => (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
const run = (vm: string) => host.exec(vm, "root", { command: "true" });

test("a host that is drained lets what runs go on, wakes nothing that sleeps, and does again when it is over", async () => {
  const [awake, asleep] = [await host.createVm(), await host.createVm()];
  await host.request("POST", `/vms/${asleep}/suspend`, { vm: asleep, op: "suspend" });
  host.edge.send({ type: "drain", draining: true });
  await until(async () => (await metrics()).includes("postern_host_draining 1\n"), "the host knows");
  expect((await run(awake)).status).toBe(200);
  const refused = await run(asleep);
  expect([refused.status, await refused.json()]).toMatchObject([503, { kind: "host-draining" }]);
  host.edge.send({ type: "drain", draining: false });
  await until(async () => (await run(asleep)).status === 200, "it is woken");
});

test("a host tells its region its size, and what it has left when that changes", async () => {
  const hello = host.edge.received.find((message) => message.type === "hello");
  expect(hello).toMatchObject({ cpus: expect.any(Number), memory: expect.any(Number), vmMemory: 1024 });
  const running = () => host.edge.received.filter((message) => message.type === "host-load").at(-1)?.running ?? -1;
  const before = running();
  await host.createVm();
  await until(() => running() === before + 1, "the region knows of one more");
});

test("a host whose disk is full but for its reserve makes no VM, and says so to the caller, its region and its metrics", async () => {
  const port = await freePort();
  const full = await startTestHost({
    POSTERN_HOST_METRICS_LISTEN: `127.0.0.1:${port}`,
    POSTERN_HOST_DISK_RESERVE_MIB: "1000000000",
  });
  onTestFinished(() => full.close());
  await until(() => full.edge.received.some((message) => message.type === "host-load"), "the region was told");
  expect(full.edge.received.filter((message) => message.type === "host-load").at(-1)).toMatchObject({ freeDisk: 0 });
  await expect(full.createVm()).rejects.toThrow("host-disk-full");
  expect(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()).toContain("postern_host_disk_full 1\n");
});

test("a host's metrics say what its VMs do and what it was asked, in fixed words only", async () => {
  const vm = await host.createVm();
  await run(vm);
  const text = await metrics();
  expect(text).toMatch(/^postern_host_vms_running [1-9]/m);
  expect(text).toContain("postern_host_feed_fresh 1\n");
  expect(text).toMatch(/^postern_host_requests_total\{status="200"\} [1-9]/m);
  expect(text).toMatch(/^postern_host_machine_states_total\{state="running"\} [1-9]/m);
  expect(text).not.toContain(vm);
});
