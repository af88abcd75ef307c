import { beforeAll, describe, expect, it } from "vitest";
import { HONOURED, type MachineWish } from "../../worker/services/honoured.ts";
import { call, newIdentity, openWorld, type World } from "./support/world.ts";

const SNAPSHOT = "s".repeat(20);
const INTERNET = { rules: [{ action: "allow", source: {}, destination: { public: true } }] };

let world: World;
beforeAll(async () => {
  world = await openWorld();
});

interface Wish {
  readonly wish: MachineWish;
  /** What the caller called it. */
  readonly member: string;
  readonly path: "/v1/vms" | "/v5/vms";
  readonly body: object;
  /** What the host is asked for. */
  readonly asked: object;
}

const WISHES: readonly Wish[] = [
  { wish: "resources", member: "vcpuCount", path: "/v1/vms", body: { vcpuCount: 2 }, asked: { resources: { cpu: 2 } } },
  {
    wish: "resources",
    member: "template.memSizeGb",
    path: "/v1/vms",
    body: { template: { memSizeGb: 4 } },
    asked: { resources: { memory: 4096 } },
  },
  {
    wish: "resources",
    member: "spec.rootfsSizeGb",
    path: "/v1/vms",
    body: { spec: { rootfsSizeGb: 10 } },
    asked: { resources: { storage: 10_240 } },
  },
  {
    wish: "files",
    member: "additionalFiles",
    path: "/v1/vms",
    body: { additionalFiles: { "/x": { content: "é" }, "/y": { content: "eQ==", encoding: "base64", executable: true } } },
    asked: {
      files: [
        { path: "/x", content: "w6k=", executable: false },
        { path: "/y", content: "eQ==", executable: true },
      ],
    },
  },
  {
    wish: "idleTimeoutSeconds",
    member: "idleTimeoutSeconds",
    path: "/v1/vms",
    body: { idleTimeoutSeconds: 60 },
    asked: { idleTimeoutSeconds: 60 },
  },
  {
    wish: "idleTimeoutSeconds",
    member: "idleTimeoutSeconds",
    path: "/v5/vms",
    body: { firewall: INTERNET, idleTimeoutSeconds: 60 },
    asked: { idleTimeoutSeconds: 60 },
  },
  {
    wish: "activityThresholdBytes",
    member: "activityThresholdBytes",
    path: "/v1/vms",
    body: { activityThresholdBytes: 9 },
    asked: { activityThresholdBytes: 9 },
  },
  { wish: "noInternet", member: "firewall.rules", path: "/v5/vms", body: { firewall: { rules: [] } }, asked: { internet: false } },
];

describe("what only a host can grant reaches it, or is refused by its name as the table of what is honoured says:", () => {
  it.each(WISHES)("$path $member", async ({ wish, member, path, body, asked }) => {
    const before = world.host.calls.length;
    const response = await call(path, { method: "POST", key: world.account.key, body });
    if (HONOURED[wish]) {
      expect(response.status).toBe(200);
      expect(JSON.parse(new TextDecoder().decode(world.host.calls.at(-1)?.body))).toMatchObject(asked);
      return;
    }
    expect(response.status).toBe(400);
    expect((await response.json<{ message: string }>()).message).toContain(`${member}: `);
    expect(world.host.calls.length).toBe(before);
  });

  it.each([
    ["/v1/vms", { snapshotId: SNAPSHOT }],
    ["/v5/vms", { firewall: INTERNET, snapshotId: SNAPSHOT }],
  ])("%s snapshotId, which also must be there", async (path, body) => {
    const response = await call(path, { method: "POST", key: world.account.key, body });
    expect([400, 404]).toContain(response.status);
    if (!HONOURED.snapshotId) expect((await response.json<{ message: string }>()).message).toContain("snapshotId: ");
  });
});

it("a start changes when the VM sleeps only if hosts follow it, and never for an access token", async () => {
  const { id } = await (await call("/v1/vms", { method: "POST", key: world.account.key, body: {} })).json<{ id: string }>();
  const start = (body: object) => call(`/v1/vms/${id}/start`, { method: "POST", key: world.account.key, body });
  expect((await start({ idleTimeoutSeconds: 60 })).status).toBe(HONOURED.idleTimeoutSeconds ? 200 : 400);
  expect((await start({ idleTimeoutSeconds: null, activityThresholdBytes: null, waitForReadySignal: true })).status).toBe(200);
  const { token } = await newIdentity(world.account, [id]);
  const byToken = await call(`/v1/vms/${id}/start`, { method: "POST", token, body: { idleTimeoutSeconds: 60 } });
  expect(byToken.status).toBe(HONOURED.idleTimeoutSeconds ? 403 : 400);
  expect((await call(`/v1/vms/${id}/start`, { method: "POST", token, body: {} })).status).toBe(200);
});
