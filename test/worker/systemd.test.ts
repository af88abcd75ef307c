import { beforeAll, describe, expect, it } from "vitest";
import { failed } from "./support/stub-host.ts";
import { call, must, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

const UNIT = { name: "web", mode: "service", exec: ["/bin/web"] };

let world: World;
let token: string;
let systemd: string;
beforeAll(async () => {
  world = await openWorld();
  const vmId = await newVm(world.account);
  ({ token } = await newIdentity(world.account, [vmId], ["alice"]));
  systemd = `/v1/vms/${vmId}/systemd`;
});

const asAlice = (path: string, options: { method?: string; body?: unknown } = {}) =>
  must(`${systemd}${path}`, { token, linuxUser: "alice", ...options });
const last = () => {
  const { method, path, search, claims, body } = world.host.calls.at(-1) ?? expect.fail("the host was not asked");
  return {
    method,
    path: path.split("/").slice(3).join("/"),
    search,
    op: claims.op,
    user: claims.user,
    body: new TextDecoder().decode(body),
  };
};

describe("an access token's services", () => {
  it("are listed, shown and read as the Linux user that was named", async () => {
    expect(await asAlice("/services")).toEqual({ services: [{ name: "ssh" }, { name: "web" }] });
    expect(last()).toMatchObject({ method: "GET", path: "services", op: "services", user: "alice" });
    expect(await asAlice("/services/web/status")).toMatchObject({ name: "web", activeState: "active", loadState: "loaded" });
    expect(await asAlice("/services/web/logs?lines=5&since=-1h")).toMatchObject({ logs: [{ message: "hello" }] });
    expect(last()).toMatchObject({ path: "services/web/logs", search: "?lines=5&since=-1h" });
  });

  it("are made, acted on and deleted", async () => {
    const made = await asAlice("/services", { method: "POST", body: { ...UNIT, env: null, user: null } });
    expect(made).toEqual({ success: true, message: expect.any(String), serviceName: "web" });
    expect(JSON.parse(last().body)).toMatchObject({ ...UNIT, enable: true, wantedBy: ["multi-user.target"] });
    for (const verb of ["start", "stop", "restart"]) {
      const acted = await asAlice(`/${verb}`, { method: "POST", body: { services: [{ id: "web" }] } });
      expect(acted).toEqual({ results: [{ serviceId: "web", success: true, message: "done" }] });
      expect(JSON.parse(last().body)).toEqual({ verb, names: ["web"] });
    }
    expect(await asAlice("/services/web", { method: "DELETE" })).toEqual({ success: true, message: expect.any(String) });
    expect(last()).toMatchObject({ method: "DELETE", path: "services/web" });
  });

  it("keep a name with a slash in its segment, for the host to refuse", async () => {
    await asAlice(`/services/${encodeURIComponent("../exec")}/status`);
    expect(last().path).toBe("services/..%2Fexec");
  });
});

describe("a service is refused", () => {
  it.each([
    {},
    { ...UNIT, exec: [] },
    { ...UNIT, exec: ["/bin/web\nUser=root"] },
    { ...UNIT, mode: "forking" },
    { ...UNIT, user: "Root" },
    { ...UNIT, deleteAfterSuccess: true },
    { ...UNIT, surprise: 1 },
  ])("when it is %j, and no host is asked", async (body) => {
    const before = world.host.calls.length;
    const response = await call(`${systemd}/services`, { method: "POST", key: world.account.key, body });
    expect(response.status).toBe(400);
    expect(world.host.calls.length).toBe(before);
  });

  it.each([{}, { services: [] }, { services: ["web"] }, { services: [{ id: 1 }] }])("to be started by %j", async (body) => {
    expect((await call(`${systemd}/start`, { method: "POST", key: world.account.key, body })).status).toBe(400);
  });

  it.each([
    ["service-exists", 409, "SERVICE_ALREADY_EXISTS"],
    ["service-not-found", 404, "SERVICE_NOT_FOUND"],
    ["service-name-invalid", 400, "SERVICE_NAME_INVALID_CHARS"],
    ["linux-user-forbidden", 403, "VM_ACCESS_DENIED"],
  ] as const)("by the guest (%s) with the code that the SDKs know", async (kind, status, code) => {
    world.host.answerNext(() => failed(kind, "Not so."));
    const response = await call(`${systemd}/services`, { method: "POST", key: world.account.key, body: UNIT });
    expect([response.status, (await response.json<{ code: string }>()).code]).toEqual([status, code]);
  });

  it("to a token as a Linux user that its grant does not list, root included", async () => {
    for (const linuxUser of [undefined, "root", "bob"]) {
      const response = await call(`${systemd}/services`, { token, ...(linuxUser === undefined ? {} : { linuxUser }) });
      expect([response.status, (await response.json<{ code: string }>()).code]).toEqual([403, "VM_ACCESS_DENIED"]);
    }
  });
});
