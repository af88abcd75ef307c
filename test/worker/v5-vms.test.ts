import { beforeAll, describe, expect, it } from "vitest";
import { type Account, call, must, newAccount, newIdentity, openWorld, type World } from "./support/world.ts";

const OPEN_RULE = { action: "allow", source: {}, destination: { public: true } };
const FIREWALL = { rules: [OPEN_RULE] };

interface Vm {
  readonly id: string;
  readonly slug: string | null;
  readonly state: string;
  readonly metadata: Readonly<Record<string, string>>;
}

let world: World;
let account: Account;
beforeAll(async () => {
  world = await openWorld();
  account = await newAccount();
});

const send = (method: string, path: string, body?: unknown) => call(path, { method, key: account.key, body });
const create = (body: object = {}) =>
  must<Vm>("/v5/vms", { method: "POST", key: account.key, body: { firewall: FIREWALL, ...body } });
const codeOf = async (response: Response) => `${response.status} ${(await response.json<{ code: string }>()).code}`;
const messageOf = async (response: Response) => (await response.json<{ message: string }>()).message;

describe("a new VM", () => {
  it("has every member that the SDK and its CLI read", async () => {
    const answer = await create({
      slug: "first",
      displayName: "First",
      metadata: { team: "a" },
      autoDeleteSeconds: 60,
      ttlSeconds: -1,
    });
    expect(answer).toEqual({
      id: expect.stringMatching(/^[a-z0-9]{20}$/),
      state: "running",
      slug: "first",
      displayName: "First",
      resources: { cpu: 0, memory: 0, storage: 0 },
      snapshotId: null,
      placement: { region: "local" },
      ports: [],
      idleTimeoutSeconds: null,
      autoDeleteSeconds: 60,
      ttlSeconds: null,
      automaticRestart: false,
      metadata: { team: "a" },
      vpcs: [],
      networks: [],
      createdAt: expect.any(String),
      updatedAt: expect.any(String),
      tlsRules: [],
      firewallRules: [
        {
          id: expect.any(String),
          action: "allow",
          source: { vmId: answer.id },
          destination: { public: true },
          description: null,
          dependencies: [{ kind: "vm", id: answer.id, slug: "first", displayName: "First" }],
          createdAt: expect.any(String),
          updatedAt: expect.any(String),
        },
      ],
    });
    const rules = await must(`/v5/firewall/rules?vmId=${answer.id}`, { key: account.key });
    expect(rules).toMatchObject({ totalCount: 1, rules: [{ source: { vmId: answer.id }, destination: { public: true } }] });
    expect(await must("/v5/firewall/rules?vmId=first", { key: account.key })).toEqual(rules);
  });

  it.each([
    ["firewall", {}],
    ["firewall.rules", { firewall: {} }],
    ["firewall.rules.0", { firewall: { rules: [{ ...OPEN_RULE, destination: { public: true, port: 443, protocol: "tcp" } }] } }],
    [
      "firewall.rules.0",
      { firewall: { rules: [{ ...OPEN_RULE, source: { public: true }, destination: { port: 22, protocol: "tcp" } }] } },
    ],
    ["firewall.rules.1", { firewall: { rules: [OPEN_RULE, { ...OPEN_RULE, destination: { cidr: "10.0.0.0/8" } }] } }],
    ["firewall.rules.0", { firewall: { rules: [{ ...OPEN_RULE, destination: {} }] } }],
    ["firewall.rules.0.action", { firewall: { rules: [{ ...OPEN_RULE, action: "deny" }] } }],
    ["firewall.rules.0.destination.port", { firewall: { rules: [{ ...OPEN_RULE, destination: { public: true, port: 1 } }] } }],
    ["firewall.rules.0.destination.public", { firewall: { rules: [{ ...OPEN_RULE, destination: { public: true, vmId: "x" } }] } }],
    ["slug", { firewall: FIREWALL, slug: "Bad" }],
    ["slug", { firewall: FIREWALL, slug: "-a" }],
    ["slug", { firewall: FIREWALL, slug: "a--b" }],
    ["slug", { firewall: FIREWALL, slug: "a".repeat(64) }],
    ["slug", { firewall: FIREWALL, slug: "a".repeat(20) }],
    ["reassignSlug", { firewall: FIREWALL, reassignSlug: true }],
    ["metadata", { firewall: FIREWALL, metadata: Object.fromEntries(Array.from({ length: 65 }, (_, at) => [`k${at}`, "v"])) }],
    ["metadata.k", { firewall: FIREWALL, metadata: { k: "v".repeat(64) } }],
    ["metadata.k", { firewall: FIREWALL, metadata: { k: 1 } }],
    ["autoDeleteSeconds", { firewall: FIREWALL, autoDeleteSeconds: -2 }],
    ["ttlSeconds", { firewall: FIREWALL, ttlSeconds: 0 }],
    ["ttlSeconds", { firewall: FIREWALL, ttlSeconds: 1.5 }],
    ["maxRunSeconds", { firewall: FIREWALL, maxRunSeconds: 60 }],
    ["maxRunTotalSeconds", { firewall: FIREWALL, maxRunTotalSeconds: 60 }],
    ["automaticRestart", { firewall: FIREWALL, automaticRestart: true }],
    ["vpcs", { firewall: FIREWALL, vpcs: [{ vpcId: "v" }] }],
    ["networks", { firewall: FIREWALL, networks: [{ vpc: "v" }] }],
    ["placement", { firewall: FIREWALL, placement: { antiAffinity: [] } }],
    ["tls.rules", { firewall: FIREWALL, tls: { rules: [{}] } }],
    ["nonsense", { firewall: FIREWALL, nonsense: 1 }],
    ["users.0.name", { firewall: FIREWALL, users: [{ name: "a b" }] }],
  ])("is refused by the name of what is wrong: %s", async (member, body) => {
    const before = world.host.calls.length;
    const response = await send("POST", "/v5/vms", body);
    expect(response.status).toBe(400);
    expect(await messageOf(response)).toContain(member);
    expect(world.host.calls.length).toBe(before);
  });

  it("may say that it wants nothing of what is not offered", async () => {
    const none = { maxRunSeconds: -1, maxRunTotalSeconds: null, automaticRestart: false, vpcs: [], networks: [], placement: null };
    await create({ ...none, tls: { rules: [] }, slug: null, displayName: null, idleTimeoutSeconds: -1, ttlSeconds: null });
  });
});

describe("a slug", () => {
  it("names its VM on every route, to an API key and to an access token that was granted the VM", async () => {
    const { id } = await create({ slug: "everywhere" });
    const { token } = await newIdentity(account, [id]);
    for (const shown of [{ key: account.key }, { token }]) {
      expect(await must("/v5/vms/everywhere", shown)).toMatchObject({ id, slug: "everywhere" });
      expect(await must("/v5/vms/everywhere/start", { method: "POST", body: {}, ...shown })).toMatchObject({ id });
      const run = { method: "POST", body: { command: "true" }, ...shown };
      expect(await must("/v5/vms/everywhere/exec-await", run)).toMatchObject({ statusCode: 0 });
    }
    expect(await must("/v5/vms/everywhere/pause", { method: "POST", key: account.key, body: {} })).toMatchObject({
      state: "paused",
    });
    expect((await send("DELETE", "/v5/vms/everywhere")).status).toBe(204);
    expect(await codeOf(await send("GET", "/v5/vms/everywhere"))).toBe("404 NOT_FOUND");
  });

  it("that nobody has, another account's, and one of a VM that was not granted look the same to an access token", async () => {
    const { id } = await create();
    await create({ slug: "ungranted" });
    const { token } = await newIdentity(account, [id]);
    const answers = [];
    for (const slug of ["ungranted", "no-such-slug", "Not a slug"]) {
      const response = await call(`/v5/vms/${encodeURIComponent(slug)}`, { token });
      expect(response.status).toBe(404);
      answers.push(await response.text());
    }
    expect(new Set(answers).size).toBe(1);
  });

  it("of another account names nothing here, and may be had by both", async () => {
    const stranger = await newAccount();
    await create({ slug: "shared" });
    expect(await codeOf(await call("/v5/vms/shared", { key: stranger.key }))).toBe("404 NOT_FOUND");
    expect((await call("/v5/vms/shared", { method: "DELETE", key: stranger.key })).status).toBe(404);
    const body = { firewall: FIREWALL, slug: "shared" };
    await must("/v5/vms", { method: "POST", key: stranger.key, body });
  });

  it("is one VM's at a time: a second is a CONFLICT that makes no machine, unless it is taken over", async () => {
    const first = await create({ slug: "wanted" });
    const before = await must<{ totalCount: number }>("/v5/vms", { key: account.key });
    const refused = await send("POST", "/v5/vms", { firewall: FIREWALL, slug: "wanted" });
    expect(await codeOf(refused)).toBe("409 CONFLICT");
    expect(await must("/v5/vms", { key: account.key })).toMatchObject({ totalCount: before.totalCount });
    const second = await create({ slug: "wanted", reassignSlug: true });
    expect(await must("/v5/vms/wanted", { key: account.key })).toMatchObject({ id: second.id });
    expect(await must(`/v5/vms/${first.id}`, { key: account.key })).toMatchObject({ slug: null, state: "running" });
  });

  it("is free again when its VM is deleted", async () => {
    const { id } = await create({ slug: "reused" });
    expect((await send("DELETE", `/v5/vms/${id}`)).status).toBe(204);
    await create({ slug: "reused" });
  });
});

describe("an update", () => {
  it("changes what it names and nothing else; empty texts take away", async () => {
    const { id } = await create({ slug: "updated", displayName: "Old", metadata: { keep: "1", drop: "2" }, ttlSeconds: 9000 });
    const patch = (body: object) => must<Vm>(`/v5/vms/${id}`, { method: "PATCH", key: account.key, body });
    expect(await patch({ metadata: { drop: "", add: "3" }, autoDeleteSeconds: 0 })).toMatchObject({
      slug: "updated",
      displayName: "Old",
      metadata: { keep: "1", add: "3" },
      autoDeleteSeconds: 0,
      ttlSeconds: 9000,
    });
    expect(await patch({ slug: "", displayName: "", ttlSeconds: -1, autoDeleteSeconds: -1 })).toMatchObject({
      slug: null,
      displayName: null,
      metadata: { keep: "1", add: "3" },
      autoDeleteSeconds: null,
      ttlSeconds: null,
    });
    expect(await must(`/v5/vms/${id}`, { key: account.key })).toMatchObject({ slug: null, metadata: { keep: "1", add: "3" } });
  });

  it("that wants a taken slug is a CONFLICT and changes nothing; it may take it over", async () => {
    const holder = await create({ slug: "held" });
    const { id } = await create({ displayName: "Same" });
    expect(await codeOf(await send("PATCH", `/v5/vms/${id}`, { slug: "held", displayName: "Other" }))).toBe("409 CONFLICT");
    expect(await must(`/v5/vms/${id}`, { key: account.key })).toMatchObject({ slug: null, displayName: "Same" });
    expect(await (await send("PATCH", `/v5/vms/${id}`, { slug: "held", reassignSlug: true })).json()).toMatchObject({
      slug: "held",
    });
    expect(await must(`/v5/vms/${holder.id}`, { key: account.key })).toMatchObject({ slug: null });
  });

  it("that would leave more than 64 entries of metadata is refused", async () => {
    const metadata = Object.fromEntries(Array.from({ length: 64 }, (_, at) => [`k${at}`, "v"]));
    const { id } = await create({ metadata });
    expect(await codeOf(await send("PATCH", `/v5/vms/${id}`, { metadata: { one: "more" } }))).toBe("400 BAD_REQUEST");
    expect((await send("PATCH", `/v5/vms/${id}`, { metadata: { one: "more", k0: "" } })).status).toBe(200);
  });

  it.each([
    { slug: "Bad" },
    { slug: null },
    { ttlSeconds: 0 },
    { maxRunSeconds: 5 },
    { automaticRestart: true },
    { firewall: FIREWALL },
  ])("is refused as %j", async (body) => {
    const { id } = await create();
    expect(await codeOf(await send("PATCH", `/v5/vms/${id}`, body))).toBe("400 BAD_REQUEST");
  });

  it("of another account's VM is not found, whatever names it", async () => {
    const { id } = await create({ slug: "mine" });
    const stranger = await newAccount();
    for (const named of [id, "mine", "a".repeat(20)]) {
      const response = await call(`/v5/vms/${named}`, { method: "PATCH", key: stranger.key, body: { slug: "" } });
      expect(await codeOf(response)).toBe("404 NOT_FOUND");
    }
    expect(await must("/v5/vms/mine", { key: account.key })).toMatchObject({ id });
  });
});

describe("a list", () => {
  it("is filtered by state, slug, snapshot and metadata, paged, and counts by state", async () => {
    const owner = await newAccount();
    const make = (body: object) => must<Vm>("/v5/vms", { method: "POST", key: owner.key, body: { firewall: FIREWALL, ...body } });
    const one = await make({ slug: "one", metadata: { team: "a", tier: "x:y" } });
    const two = await make({ metadata: { team: "a" } });
    await must(`/v5/vms/${two.id}/pause`, { method: "POST", key: owner.key, body: {} });
    const list = async (query: string) => {
      const answer = await must<{ vms: Vm[]; totalCount: number }>(`/v5/vms${query}`, { key: owner.key });
      return [answer.vms.map(({ id }) => id), answer.totalCount];
    };
    expect(await must("/v5/vms", { key: owner.key })).toMatchObject({
      vms: [
        { id: one.id, slug: "one", state: "running" },
        { id: two.id, slug: null, state: "paused", networks: [] },
      ],
      totalCount: 2,
      runningCount: 1,
      startingCount: 0,
      pausingCount: 0,
      pausedCount: 1,
      stoppedCount: 0,
    });
    expect(await list("?state=paused")).toEqual([[two.id], 1]);
    expect(await list("?slug=one")).toEqual([[one.id], 1]);
    expect(await list("?metadata=team:a")).toEqual([[one.id, two.id], 2]);
    expect(await list("?metadata=team:a,tier:x:y")).toEqual([[one.id], 1]);
    expect(await list("?metadata=team:b")).toEqual([[], 0]);
    expect(await list("?snapshotId=aaaaaaaaaaaaaaaaaaaa")).toEqual([[], 0]);
    expect(await list("?limit=1&offset=1")).toEqual([[two.id], 2]);
  });

  it.each(["?state=suspended", "?metadata=nonsense", "?metadata=:v", "?limit=0", "?offset=-1"])(
    "asked with %s is refused",
    async (query) => {
      expect(await codeOf(await send("GET", `/v5/vms${query}`))).toBe("400 BAD_REQUEST");
    },
  );
});

describe("what is not offered", () => {
  it.each(["resize", "snapshot"])("%s says so", async (action) => {
    const { id } = await create();
    const response = await send("POST", `/v5/vms/${id}/${action}`, {});
    expect([400, 200]).toContain(response.status);
  });

  it("firewall rules without a VM, and of a VM that is not there, are refused", async () => {
    expect(await codeOf(await send("GET", "/v5/firewall/rules"))).toBe("400 BAD_REQUEST");
    expect(await codeOf(await send("GET", "/v5/firewall/rules?vmId=nobody"))).toBe("404 NOT_FOUND");
  });
});

it("nothing under /v5/free-tier is ever a success: the CLI would execute it", async () => {
  for (const path of ["/v5/free-tier/binary", "/v5/free-tier/grant", "/v5/free-tier/"]) {
    for (const method of ["GET", "POST", "HEAD"]) {
      for (const shown of [{}, { key: account.key }]) {
        const response = await call(path, { method, ...shown });
        expect([path, method, response.status]).toEqual([path, method, 404]);
        if (method !== "HEAD") expect(await response.json()).toMatchObject({ code: "NOT_FOUND" });
      }
    }
  }
});
