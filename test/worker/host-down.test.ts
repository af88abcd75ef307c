import { beforeAll, describe, expect, it } from "vitest";
import { localRegion, setClock } from "../durable-objects/objects.ts";
import { type Call, call, type Identity, must, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

let world: World;
let vmId: string;
let identity: Identity;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account, { ports: [{ port: 443, targetPort: 80 }] });
  identity = await newIdentity(world.account, [vmId]);
  await setClock(await localRegion(), Date.now() + 3_600_000);
});

const UPGRADE = { upgrade: "websocket" };

describe("a VM whose host is down answers 503, says so, and asks the host nothing:", () => {
  const requests: [string, () => [path: string, options: Call], code: string][] = [
    ["exec of /v1", () => [`/v1/vms/${vmId}/exec-await`, { method: "POST", body: { command: "id" } }], "UNAVAILABLE"],
    ["exec of /v5", () => [`/v5/vms/${vmId}/exec-await`, { method: "POST", body: { command: "id" } }], "HOST_DOWN"],
    ["a file", () => [`/v5/vms/${vmId}/fs/read?path=%2Fx`, {}], "HOST_DOWN"],
    ["a terminal", () => [`/v5/vms/${vmId}/pty`, { headers: UPGRADE }], "HOST_DOWN"],
    ["a start", () => [`/v1/vms/${vmId}/start`, { method: "POST", body: {} }], "UNAVAILABLE"],
    ["its own name", () => [`https://${vmId}.vm.localhost/`, {}], "HOST_DOWN"],
  ];
  it.each(requests)("%s", async (_what, request, code) => {
    const before = world.host.calls.length;
    const [path, options] = request();
    const response = await call(path, { ...options, token: identity.token });
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toMatch(/^\d+$/);
    const body = await response.json<{ code: string; message: string }>();
    expect(body).toMatchObject({ code, message: expect.stringContaining("is down: it was last heard") });
    expect(world.host.calls.length).toBe(before);
  });

  it("and its record is still shown, and goes on once the host is back", async () => {
    const { key } = world.account;
    expect(await must(`/v1/vms/${vmId}`, { key })).toMatchObject({ state: "running" });
    await setClock(await localRegion(), Date.now());
    expect((await call(`/v1/vms/${vmId}/start`, { method: "POST", key, body: {} })).status).toBe(200);
  });
});

describe("placement that a create asks for", () => {
  const create = (placement: object) =>
    call("/v5/vms", { method: "POST", key: world.account.key, body: { firewall: { rules: [] }, placement } });

  it("is a region of the deployment, or the request is refused by its name", async () => {
    const response = await create({ region: "nowhere" });
    expect([response.status, await response.json()]).toMatchObject([400, { message: expect.stringContaining("placement.region") }]);
  });

  it("that no host can give is 503 with a known code", async () => {
    const response = await create({ driver: "qemu" });
    expect([response.status, await response.json()]).toMatchObject([503, { code: "UNAVAILABLE" }]);
  });
});
