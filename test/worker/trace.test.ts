import { beforeAll, expect, it, vi } from "vitest";
import { type Call, call, newVm, openWorld, type World } from "./support/world.ts";

const TRACE = "x-freestyle-trace-id";

let world: World;
let vmId: string;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
});

/** What the host was asked since, as method, path and trace id. */
const askedSince = (before: number) =>
  world.host.calls
    .slice(before)
    .map(({ method, path, headers }) => [`${method} ${path.split("/").slice(3).join("/")}`, headers.get(TRACE)]);

// In this order: each finds the VM as the one before left it.
const OPERATIONS: [what: string, path: () => string, options: Call, asked: string][] = [
  ["a create", () => "/v1/vms", { method: "POST", body: {} }, "PUT "],
  ["a pause", () => `/v1/vms/${vmId}/suspend`, { method: "POST" }, "POST suspend"],
  ["a start", () => `/v1/vms/${vmId}/start`, { method: "POST", body: {} }, "POST start"],
  ["a change", () => `/v5/vms/${vmId}`, { method: "PATCH", body: { idleTimeoutSeconds: 77 } }, "PUT idle"],
  ["a resize", () => `/v5/vms/${vmId}/resize`, { method: "POST", body: { memory: 4096 } }, "POST resize"],
  ["a snapshot", () => `/v5/vms/${vmId}/snapshot`, { method: "POST", body: {} }, "POST snapshots"],
  ["a stop", () => `/v1/vms/${vmId}/stop`, { method: "POST" }, "POST stop"],
  ["a delete", () => `/v1/vms/${vmId}`, { method: "DELETE" }, "DELETE "],
];

it.each(OPERATIONS)(
  "%s reaches the host under the trace id of its own answer, though an object asks",
  async (_what, path, options, asked) => {
    const before = world.host.calls.length;
    const response = await call(path(), { key: world.account.key, ...options });
    expect(response.status).toBeLessThan(300);
    const trace = response.headers.get(TRACE);
    expect(trace).toMatch(/^[0-9a-f]{32}$/);
    // A create whose answer nobody reads is undone, at some time, under its own trace id.
    expect(askedSince(before)).toContainEqual([asked, trace]);
  },
);

it("a create that goes on in the background keeps the trace id of the answer that began it", async () => {
  const before = world.host.calls.length;
  const headers = { "x-freestyle-background-after-secs": "0" };
  const response = await call("/v5/vms", { method: "POST", key: world.account.key, headers, body: { firewall: { rules: [] } } });
  expect(response.status).toBe(202);
  await vi.waitFor(() => expect(askedSince(before)).toContainEqual(["PUT ", response.headers.get(TRACE)]), 10_000);
});
