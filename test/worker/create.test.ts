import { beforeAll, describe, expect, it } from "vitest";
import fieldsDocument from "../../docs/create-fields.md?raw";
import { UNHONOURED_FIELDS } from "../../worker/dialects/v1/create-fields.ts";
import { HONOURED_FIELDS } from "../../worker/dialects/v1/create-layer.ts";
import { tableRows } from "./support/markdown.ts";
import { call, must, newVm, openWorld, type World } from "./support/world.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});

const create = (body: unknown) => call("/v1/vms", { method: "POST", key: world.account.key, body });
const made = () => {
  const call = world.host.calls.findLast(({ claims }) => claims.op === "create");
  return JSON.parse(new TextDecoder().decode(call?.body));
};

it("answers what every SDK reads", async () => {
  const answer = await must<{ id: string }>("/v1/vms", { method: "POST", key: world.account.key, body: {} });
  const id = expect.stringMatching(/^[a-z0-9]{20}$/);
  expect(answer).toEqual({ id, domains: [`${answer.id}.vm.localhost`], consoleUrl: null, snapshotId: null });
});

it("takes no body at all", async () => {
  expect((await call("/v1/vms", { method: "POST", key: world.account.key })).status).toBe(200);
});

describe("what the SDKs and CLIs send and asks for nothing is accepted:", () => {
  it.each([
    { template: { discriminator: "n", aptDeps: [] } },
    { spec: { discriminator: "n", aptDeps: [], name: null } },
    { idleTimeoutSeconds: null, workdir: null, template: null, spec: null, snapshotId: null },
    { domains: [], ports: [], nics: [], gitRepos: [], udpHolePunchPorts: [], systemd: { services: [], patchedServices: [] } },
    { git: { config: {} }, additionalFiles: {}, recreate: false, waitForReadySignal: true, readySignalTimeoutSeconds: 60 },
    { persistence: { type: "persistent" } },
    { persistence: { type: "sticky", priority: 3 } },
    { spec: { snapshot: { discriminator: "base", skipCache: true }, name: null } },
    { users: null, groups: null, name: null },
  ])("%j", async (body) => {
    expect((await create(body)).status).toBe(200);
  });
});

describe("what cannot be honoured is refused by name:", () => {
  it.each([
    ["workdir", { workdir: "/srv" }],
    ["ports", { ports: [{ port: 80, targetPort: 3000 }] }],
    ["ports", { ports: [{ port: 443, targetPort: 53, protocol: "udp" }] }],
    ["persistence", { persistence: { type: "ephemeral" } }],
    ["persistence", { persistence: "persistent" }],
    ["persistence", { persistence: { type: "ephemeral", deleteEvent: "OnSuspend" } }],
    ["idleTimeoutSeconds", { idleTimeoutSeconds: 0 }],
    ["vcpuCount", { vcpuCount: 1.5 }],
    ["spec.memSizeGb", { spec: { memSizeGb: -1 } }],
    ["snapshotId", { snapshotId: "no id" }],
    ["additionalFiles", { additionalFiles: { relative: { content: "y" } } }],
    ["additionalFiles./x", { additionalFiles: { "/x": { content: 7 } } }],
    ["additionalFiles", { additionalFiles: { "/x": { content: "%", encoding: "base64" } } }],
    ["systemd", { systemd: { services: [{ name: "x", mode: "service", exec: ["y"] }] } }],
    ["template.baseImage", { template: { baseImage: { dockerfileContent: "FROM x" } } }],
    ["spec.snapshot.aptDeps", { spec: { snapshot: { aptDeps: ["git"] } } }],
    ["git", { git: { config: { user: { name: "n", email: "e" } } } }],
    ["gitRepos", { gitRepos: [{ repo: "r", path: "/p" }] }],
    ["recreate", { recreate: true }],
    ["aptDeps", { aptDeps: ["curl"] }],
    ["domains", { domains: [{ domain: "x.example", vmPort: 80 }] }],
    ["dockerCredentials", { dockerCredentials: { registry: "r", username: "u", password: "p" } }],
    ["nics", { nics: [{ vpc: "v", mode: "routed", ipv4: true }] }],
    ["udpHolePunchPorts", { udpHolePunchPorts: [{ targetPort: 1 }] }],
    ["firewall", { firewall: { rules: [] } }],
    ["template", { template: "t" }],
    ["name", { name: 5 }],
    ["users", { users: "alice" }],
    ["users.0.uid", { users: [{ name: "a", uid: 70000 }] }],
    ["template.users.0.name", { template: { users: [{ name: "Root" }] } }],
    ["groups.0.name", { groups: [{ name: "a b" }] }],
  ])("%s", async (member, body) => {
    const before = world.host.calls.length;
    const response = await create(body);
    expect(response.status).toBe(400);
    const failure = await response.json<{ code: string; message: string }>();
    expect(failure.code).toBe("CREATE_VM_BAD_REQUEST");
    expect(failure.message).toContain(member);
    expect(world.host.calls.length).toBe(before);
  });

  it("layers that nest without end", async () => {
    let layer: object = {};
    for (let depth = 0; depth < 50; depth += 1) layer = { snapshot: layer };
    expect((await create({ spec: layer })).status).toBe(400);
  });
});

it("users and groups are made wherever they stand, and null members count as absent", async () => {
  const response = await create({
    users: [{ name: "alice", uid: null, home: null }],
    template: { users: [{ name: "bob" }], groups: [{ name: "crew", gid: 4000 }] },
    spec: { users: [{ name: "carol", groups: ["crew"] }], snapshot: { users: [{ name: "dave", shell: "/bin/sh" }] } },
  });
  expect(response.status).toBe(200);
  const { users, groups } = made();
  expect(users.toSorted((a: { name: string }, b: { name: string }) => a.name.localeCompare(b.name))).toEqual([
    { name: "alice" },
    { name: "bob" },
    { name: "carol", groups: ["crew"] },
    { name: "dave", shell: "/bin/sh" },
  ]);
  expect(groups).toEqual([{ name: "crew", gid: 4000 }]);
});

it.each([{ users: [{ name: "eve" }, { name: "eve" }] }, { users: [{ name: "eve" }], template: { users: [{ name: "eve" }] } }])(
  "a Linux user that is named twice is refused: %j",
  async (body) => {
    const response = await create(body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "DUPLICATE_USER_NAME" });
  },
);

it("a name is kept", async () => {
  for (const body of [{ name: "one" }, { spec: { name: "one" } }, { template: { name: "one" } }]) {
    const id = await newVm(world.account, body);
    expect(await must(`/v1/vms/${id}`, { key: world.account.key })).toMatchObject({ id, name: "one" });
  }
});

it.each(["{", "[]", "7", '"x"', "\u00ff"])("the body %j is a bad request with a code that 0.1.63 does not retry", async (body) => {
  const response = await create(body);
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ code: "CREATE_VM_BAD_REQUEST" });
});

it("a body that is too large is refused with a code that 0.1.63 does not retry", async () => {
  const response = await create({ discriminator: "x".repeat(3 * 1024 * 1024) });
  expect(response.status).toBe(413);
  expect(await response.json()).toMatchObject({ code: "INVALID_REQUEST" });
});

it("docs/create-fields.md has a row for every field", () => {
  const documented = tableRows(fieldsDocument).map(([field]) => field);
  for (const field of [...Object.keys(UNHONOURED_FIELDS), ...HONOURED_FIELDS]) expect(documented).toContain(`\`${field}\``);
});
