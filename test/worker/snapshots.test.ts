import { beforeAll, describe, expect, it } from "vitest";
import { failed } from "./support/stub-host.ts";
import { call, must, newAccount, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

const ABSENT = "a".repeat(20);

let world: World;
let key: string;
let vmId: string;
beforeAll(async () => {
  world = await openWorld();
  ({ key } = world.account);
  vmId = await newVm(world.account);
});

const post = (path: string, body: object = {}, as = key) => call(path, { method: "POST", key: as, body });
const take = async (body: object = {}) =>
  (await must<{ snapshotId: string }>(`/v1/vms/${vmId}/snapshot`, { method: "POST", key, body })).snapshotId;
const codeOf = async (response: Response) => [response.status, (await response.json<{ code: string }>()).code];
/** What the host was asked to make last. */
const lastCreate = () => {
  const body = world.host.calls.findLast(({ claims }) => claims.op === "create")?.body;
  return JSON.parse(new TextDecoder().decode(body)) as { snapshotId: string | null; resources: object; users: object[] };
};

describe("/v1 snapshots", () => {
  it("are taken, listed with counts, shown, renamed, booted from and deleted", async () => {
    const owner = await newAccount();
    const source = await newVm(owner);
    const asOwner = { key: owner.key };
    const taken = await must<{ snapshotId: string }>(`/v1/vms/${source}/snapshot`, {
      method: "POST",
      ...asOwner,
      body: { name: "one" },
    });
    expect(taken).toEqual({ snapshotId: expect.stringMatching(/^[a-z0-9]{20}$/), sourceVmId: source, sourceVmInstanceId: source });
    const path = `/v1/vms/snapshots/${taken.snapshotId}`;
    const row = await must<object>(path, asOwner);
    expect(row).toMatchObject({ snapshotId: taken.snapshotId, state: "ready", name: "one", failed: false, deleted: false });
    expect(await must("/v1/vms/snapshots", asOwner)).toMatchObject({
      snapshots: [row],
      totalCount: 1,
      readyCount: 1,
      deletedCount: 0,
    });
    expect(await must(path, { method: "PATCH", ...asOwner, body: { name: "two" } })).toEqual({
      snapshot_id: taken.snapshotId,
      name: "two",
    });
    const clone = await must("/v1/vms", { method: "POST", ...asOwner, body: { snapshotId: taken.snapshotId } });
    expect(clone).toMatchObject({ id: expect.any(String), snapshotId: taken.snapshotId });
    expect(lastCreate()).toMatchObject({ snapshotId: taken.snapshotId });
    expect(await must(path, { method: "DELETE", ...asOwner })).toEqual({ snapshot_id: taken.snapshotId });
    expect(await codeOf(await call(path, asOwner))).toEqual([404, "SNAPSHOT_NOT_FOUND"]);
    expect(await must("/v1/vms/snapshots", asOwner)).toMatchObject({ snapshots: [], totalCount: 0, deletedCount: 1 });
    const all = await must<{ snapshots: object[] }>("/v1/vms/snapshots?includeDeleted=true", asOwner);
    expect(all.snapshots).toMatchObject([{ snapshotId: taken.snapshotId, deleted: true }]);
  });

  it.each([
    ["one that nobody has", () => ABSENT, () => key],
    ["another account's", () => take(), async () => (await newAccount()).key],
  ])("%s is not found, for any call", async (_which, id, as) => {
    const [snapshotId, shown] = [await id(), await as()];
    const path = `/v1/vms/snapshots/${snapshotId}`;
    for (const [method, body] of [
      ["GET", undefined],
      ["PATCH", { name: "x" }],
      ["DELETE", undefined],
    ] as const) {
      expect(await codeOf(await call(path, { method, key: shown, body }))).toEqual([404, "SNAPSHOT_NOT_FOUND"]);
      expect((await call(path.replace("/v1/vms", "/v5"), { method, key: shown, body: body && {} })).status).toBe(404);
    }
    expect(await codeOf(await post("/v1/vms", { snapshotId }, shown))).toEqual([404, "SNAPSHOT_NOT_FOUND"]);
    const v5 = { firewall: { rules: [] }, snapshotId };
    expect(await codeOf(await post("/v5/vms", v5, shown))).toEqual([404, "NOT_FOUND"]);
  });

  it("are built from a description, and the VM that was needed is deleted", async () => {
    const owner = await newAccount();
    const built = await must<{ snapshotId: string }>("/v1/vms/snapshots", {
      method: "POST",
      key: owner.key,
      body: {
        name: "golden",
        template: { users: [{ name: "alice" }], additionalFiles: { "/x": { content: "y" } }, discriminator: "d" },
      },
    });
    expect(lastCreate()).toMatchObject({ users: [{ name: "alice" }], files: [{ path: "/x" }], snapshotId: null });
    expect(await must(`/v1/vms/snapshots/${built.snapshotId}`, owner)).toMatchObject({ state: "ready", name: "golden" });
    expect(await must("/v1/vms", owner)).toMatchObject({ vms: [], totalCount: 0 });
  });

  it.each([
    { template: { aptDeps: ["curl"] } },
    { spec: { baseImage: { dockerfileContent: "FROM x" } } },
    { template: { git: { repos: [{}] } } },
  ])("are not built from %j, which is refused by name", async (body) => {
    const response = await post("/v1/vms/snapshots", body);
    expect(response.status).toBe(400);
    const answer = await response.json<{ code: string; message: string }>();
    expect(answer.code).toBe("CREATE_SNAPSHOT_BAD_REQUEST");
    expect(answer.message).toContain(Object.keys(Object.values(body)[0] ?? {})[0]);
  });

  it("that are to vanish by themselves are refused", async () => {
    expect((await post(`/v1/vms/${vmId}/snapshot`, { persistence: { type: "ephemeral" } })).status).toBe(400);
    for (const member of ["ttlSeconds", "autoDeleteSeconds"]) {
      expect((await post(`/v5/vms/${vmId}/snapshot`, { [member]: 60 })).status).toBe(400);
    }
  });

  it("of a VM that is not there, or no id, are refused", async () => {
    expect(await codeOf(await post(`/v1/vms/${ABSENT}/snapshot`))).toEqual([404, "VM_NOT_FOUND"]);
    expect(await codeOf(await post("/v1/vms/NOT an id/snapshot"))).toEqual([400, "INVALID_VM_ID"]);
  });

  it("that the host could not take have failed, with the host's word", async () => {
    world.host.answerNext(() => failed("snapshot-failed", "The disk could not be captured."));
    expect(await codeOf(await post(`/v1/vms/${vmId}/snapshot`))).toEqual([500, "SNAPSHOT_SETUP_FAILED"]);
    const all = await must<{ snapshots: object[] }>("/v1/vms/snapshots?includeFailed=true", { key });
    expect(all.snapshots).toContainEqual(
      expect.objectContaining({ state: "failed", failed: true, failureReason: "The disk could not be captured." }),
    );
  });
});

describe("/v5 snapshots", () => {
  it("have slugs, which name them everywhere and are given back", async () => {
    const taken = await must<{ snapshotId: string; snapshot: object }>(`/v5/vms/${vmId}/snapshot`, {
      method: "POST",
      key,
      body: { slug: "base", displayName: "Base" },
    });
    expect(taken).toMatchObject({
      sourceVmId: vmId,
      snapshot: { id: taken.snapshotId, slug: "base", displayName: "Base", public: false },
    });
    expect(await must("/v5/snapshots/base", { key })).toEqual(taken.snapshot);
    expect(await codeOf(await post(`/v5/vms/${vmId}/snapshot`, { slug: "base" }))).toEqual([409, "CONFLICT"]);
    const listed = await must<{ snapshots: object[] }>(`/v5/snapshots?sourceVmId=${vmId}`, { key });
    expect(listed.snapshots).toContainEqual(taken.snapshot);
    expect(await must("/v5/snapshots?sourceVmId=nobody", { key })).toEqual({ snapshots: [], totalCount: 0 });
    const renamed = await must("/v5/snapshots/base", { method: "PATCH", key, body: { slug: "", displayName: "Other" } });
    expect(renamed).toMatchObject({ slug: null, displayName: "Other" });
    expect((await call("/v5/snapshots/base", { key })).status).toBe(404);
    expect((await call(`/v5/snapshots/${taken.snapshotId}`, { method: "DELETE", key })).status).toBe(204);
    expect((await call(`/v5/snapshots/${taken.snapshotId}`, { key })).status).toBe(404);
  });

  it.each(["Base", "-a", "a--b", "a".repeat(64), ABSENT])("cannot have the slug %j", async (slug) => {
    expect((await post(`/v5/vms/${vmId}/snapshot`, { slug })).status).toBe(400);
  });
});

describe("forks", () => {
  it("are as many as asked, like their source, and leave no snapshot", async () => {
    const owner = await newAccount();
    const source = await newVm(owner, { vcpuCount: 1, name: "source" });
    const answer = await must<{ vmId: string; forks: { id: string }[] }>(`/v1/vms/${source}/fork`, {
      method: "POST",
      key: owner.key,
      body: { count: 2 },
    });
    expect(answer).toEqual({
      vmId: source,
      forks: Array(2).fill({
        id: expect.any(String),
        domains: [expect.stringMatching(/^[a-z0-9]{20}\.vm\.localhost$/)],
        consoleUrl: null,
      }),
    });
    expect(lastCreate()).toMatchObject({ snapshotId: expect.any(String), resources: { cpu: 1 }, internet: true, users: [] });
    expect(await must("/v1/vms", owner)).toMatchObject({ totalCount: 3 });
    expect(await must("/v1/vms/snapshots", owner)).toMatchObject({ snapshots: [], deletedCount: 1 });
    const one = await must<{ forks: object[] }>(`/v1/vms/${source}/fork`, { method: "POST", key: owner.key, body: {} });
    expect(one.forks).toHaveLength(1);
  });

  it.each([0, -1, 1.5, 17, "2"])("are never %j", async (count) => {
    expect((await post(`/v1/vms/${vmId}/fork`, { count })).status).toBe(400);
  });

  it("of a VM that is not there are refused", async () => {
    expect((await post(`/v1/vms/${ABSENT}/fork`)).status).toBe(404);
  });
});

describe("resize", () => {
  const asked = () => {
    const body = world.host.calls.findLast(({ claims }) => claims.op === "resize")?.body;
    return JSON.parse(new TextDecoder().decode(body)) as unknown;
  };

  it("reaches the host in its own units, from both dialects, and is shown", async () => {
    world.host.answerNext(() => Response.json({ state: "running", at: Date.now(), resources: { cpu: 2, memory: 4096 } }));
    expect(await must(`/v1/vms/${vmId}/resize`, { method: "POST", key, body: { vcpuCount: 2, memSizeGb: 4 } })).toEqual({});
    expect(asked()).toEqual({ cpu: 2, memory: 4096 });
    expect(await must(`/v5/vms/${vmId}`, { key })).toMatchObject({ resources: { cpu: 2, memory: 4096 } });
    await must(`/v5/vms/${vmId}/resize`, { method: "POST", key, body: { memory: 8192 } });
    expect(asked()).toEqual({ memory: 8192 });
  });

  it("only grows in /v5", async () => {
    const before = world.host.calls.length;
    const response = await post(`/v5/vms/${vmId}/resize`, { cpu: 1 });
    expect(response.status).toBe(400);
    expect((await response.json<{ message: string }>()).message).toContain("cpu");
    expect(world.host.calls.length).toBe(before);
  });

  it.each([
    ["/v1", {}],
    ["/v5", {}],
    ["/v1", { vcpuCount: 0 }],
    ["/v1", { memSizeGb: "4" }],
    ["/v5", { memory: 1.5 }],
    ["/v5", { disk: 10 }],
  ])("of %s with %j is refused", async (dialect, body) => {
    expect((await post(`${dialect}/vms/${vmId}/resize`, body)).status).toBe(400);
  });

  it("that the host refuses says which member in the host's words", async () => {
    world.host.answerNext(() => failed("resize-bad-request", "storage: cannot be chosen."));
    const response = await post(`/v1/vms/${vmId}/resize`, { rootfsSizeGb: 10 });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "BAD_REQUEST", message: "storage: cannot be chosen." });
  });
});

it("an access token may do none of this, on its own VM either", async () => {
  const { token } = await newIdentity(world.account, [vmId]);
  const snapshotId = await take();
  for (const [method, path] of [
    ["POST", `/v1/vms/${vmId}/snapshot`],
    ["POST", `/v5/vms/${vmId}/snapshot`],
    ["POST", `/v1/vms/${vmId}/fork`],
    ["POST", `/v1/vms/${vmId}/resize`],
    ["POST", `/v5/vms/${vmId}/resize`],
    ["POST", "/v1/vms/snapshots"],
    ["GET", "/v1/vms/snapshots"],
    ["GET", "/v5/snapshots"],
    ["GET", `/v1/vms/snapshots/${snapshotId}`],
    ["PATCH", `/v1/vms/snapshots/${snapshotId}`],
    ["DELETE", `/v1/vms/snapshots/${snapshotId}`],
    ["DELETE", `/v5/snapshots/${snapshotId}`],
  ] as const) {
    const response = await call(path, { method, token, ...(method === "GET" ? {} : { body: {} }) });
    expect([path, ...(await codeOf(response))]).toEqual([path, 403, "FORBIDDEN"]);
  }
});
