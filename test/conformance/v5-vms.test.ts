import { describe, expect, test } from "vitest";
import { newAccount } from "../system/fixture.ts";
import { until } from "../system/poll.ts";
import { expectRefusalV5, INTERNET, keyClientV5, testIdentityV5, testVmV5, tokenClientV5 } from "../system/sdk-v5.ts";
import { wire } from "../system/wire.ts";

const owner = async () => keyClientV5((await newAccount()).apiKey);

describe("VMs with freestyle 0.2.17", () => {
  test("a VM is made with everything the SDK can say of it, listed, found by its slug, and changed", async () => {
    const client = await owner();
    const { vm, data } = await testVmV5(client, {
      slug: "dev",
      displayName: "Dev box",
      metadata: { team: "a", tier: "free" },
      autoDeleteSeconds: 3600,
      ttlSeconds: 7200,
    });
    expect(data).toMatchObject({
      id: vm.id,
      state: "running",
      slug: "dev",
      displayName: "Dev box",
      metadata: { team: "a", tier: "free" },
      autoDeleteSeconds: 3600,
      ttlSeconds: 7200,
      networks: [],
      vpcs: [],
    });
    expect((await client.vms.get("dev")).id).toBe(vm.id);
    expect(await client.vms.list({ metadata: "team:a,tier:free" })).toMatchObject({ totalCount: 1, runningCount: 1 });
    expect(await client.vms.list({ slug: "other" })).toMatchObject({ totalCount: 0, vms: [] });
    const changed = await vm.update({ slug: "prod", displayName: "", metadata: { tier: "" }, ttlSeconds: -1 });
    expect(changed).toMatchObject({ slug: "prod", displayName: null, metadata: { team: "a" }, ttlSeconds: null });
    expect(await vm.data()).toMatchObject({ slug: "prod", autoDeleteSeconds: 3600 });
    expect(await vm.firewallRules()).toMatchObject({ totalCount: 1 });
    expect(await client.vms.ref("prod").exec("hostname")).toMatchObject({ statusCode: 0 });
  });

  test("pause keeps what runs in memory, start resumes it, delete ends it", async () => {
    const client = await owner();
    const { vm } = await testVmV5(client);
    await vm.exec("sleep 1000 >/dev/null 2>&1 & echo $! >/root/pid");
    expect(await vm.pause()).toMatchObject({ state: "paused" });
    expect(await client.vms.list({ state: "paused" })).toMatchObject({ totalCount: 1, pausedCount: 1 });
    expect(await vm.start()).toMatchObject({ state: "running" });
    expect(await vm.exec("kill -0 $(cat /root/pid)")).toMatchObject({ statusCode: 0 });
    await vm.delete();
    await expectRefusalV5(vm.data(), "404 NOT_FOUND");
    await expectRefusalV5(vm.delete(), "404 NOT_FOUND");
    expect((await client.vms.list()).vms).toEqual([]);
  });

  test("a slug that is taken is a CONFLICT until it is reassigned; the former holder runs on", async () => {
    const client = await owner();
    const { vm: first } = await testVmV5(client, { slug: "web" });
    await expectRefusalV5(client.vms.create({ firewall: INTERNET, slug: "web" }), "409 CONFLICT");
    expect(await client.vms.list()).toMatchObject({ totalCount: 1 });
    const { vm: second } = await testVmV5(client, { slug: "web", reassignSlug: true });
    expect((await client.vms.get("web")).id).toBe(second.id);
    expect(await first.data()).toMatchObject({ slug: null, state: "running" });
  });

  test("a VM whose time is over is deleted by itself, running or not", async () => {
    const client = await owner();
    const { vm } = await testVmV5(client, { ttlSeconds: 1 });
    const { vm: stopped } = await testVmV5(client, { autoDeleteSeconds: 1 });
    await stopped.pause();
    await until("both are gone", 30_000, async () => ((await client.vms.list()).totalCount === 0 ? true : undefined));
    await expectRefusalV5(vm.exec("true"), "404 NOT_FOUND");
  });

  test("another account's VM does not exist, by id or by slug, for any call", async () => {
    const client = await owner();
    const { vm } = await testVmV5(client, { slug: "hidden" });
    const stranger = await owner();
    for (const named of [vm.id, "hidden", "aaaaaaaaaaaaaaaaaaaa"]) {
      const foreign = stranger.vms.ref(named);
      for (const call of [
        () => foreign.data(),
        () => foreign.update({ slug: "" }),
        () => foreign.start(),
        () => foreign.pause(),
        () => foreign.exec("id"),
        () => foreign.firewallRules(),
        () => foreign.delete(),
      ]) {
        await expectRefusalV5(call(), "404 NOT_FOUND");
      }
    }
    expect(await vm.data()).toMatchObject({ slug: "hidden", state: "running" });
  });

  test("what cannot be honoured is refused by its name and makes nothing", async () => {
    const client = await owner();
    for (const [member, options] of [
      ["maxRunSeconds", { maxRunSeconds: 60 }],
      ["automaticRestart", { automaticRestart: true }],
      ["vpcs", { vpcs: [{ vpcId: "v" }] }],
      ["slug", { slug: "Not A Slug" }],
      [
        "firewall.rules.0",
        { firewall: { rules: [{ action: "allow" as const, source: { public: true as const }, destination: {} }] } },
      ],
    ] as const) {
      const call = client.vms.create({ firewall: INTERNET, ...options } as Parameters<typeof client.vms.create>[0]);
      expect(await expectRefusalV5(call, "400 BAD_REQUEST")).toContain(member);
    }
    expect((await client.vms.list()).vms).toEqual([]);
  });
});

describe("exec with freestyle 0.2.17", () => {
  test("has a user, an environment, input of any bytes, and a status", async () => {
    const client = await owner();
    const { vm } = await testVmV5(client, { users: [{ name: "alice" }] } as object);
    const answer = await vm.exec({
      command: 'printf "%s " "$GREETING" "$(id -un)"; cat | od -An -tx1; exit 3',
      linuxUser: "alice",
      env: { GREETING: "it's $HOME" },
      stdin: Buffer.from([0, 255, 10]).toString("base64"),
    });
    expect(answer).toMatchObject({ stdout: "it's $HOME alice  00 ff 0a\n", statusCode: 3 });
    expect(await vm.linuxUser("alice").exec("id -un")).toMatchObject({ stdout: "alice\n" });
    expect(await vm.linuxUser("root").exec("id -un")).toMatchObject({ stdout: "root\n" });
    await expectRefusalV5(vm.exec({ command: "id", linuxUser: "mallory" }), "404 NOT_FOUND");
  });

  test("without a user runs as the account with the uid 1000, or as root where there is none", async () => {
    const client = await owner();
    const { vm } = await testVmV5(client);
    expect(await vm.exec("id -un")).toMatchObject({ stdout: "root\n" });
    await vm.exec("useradd --create-home --uid 1000 --shell /bin/bash ubuntu");
    const { token } = await testIdentityV5(client, vm);
    const held = tokenClientV5(token).vms.ref(vm.id);
    expect(await held.exec("id -un; pwd")).toMatchObject({ stdout: "ubuntu\n/home/ubuntu\n" });
    const { token: narrow } = await testIdentityV5(client, vm, ["root"]);
    await expectRefusalV5(tokenClientV5(narrow).vms.ref(vm.id).exec("id"), "403 FORBIDDEN");
  });

  test("a command whose time is up answers what it wrote and a null status", async () => {
    const { vm } = await testVmV5(await owner());
    const answer = await vm.exec({ command: "echo so far; sleep 1234", timeoutMs: 1500 });
    expect(answer).toMatchObject({ stdout: "so far\n", statusCode: null });
  });

  test("an access token runs commands as its users only, and may manage nothing", async () => {
    const client = await owner();
    const { vm } = await testVmV5(client, { users: [{ name: "alice" }, { name: "bob" }] } as object);
    const { token } = await testIdentityV5(client, vm, ["alice"]);
    const holder = tokenClientV5(token);
    const held = holder.vms.ref(vm.id);
    expect(await held.exec({ command: "id -un", linuxUser: "alice" })).toMatchObject({ stdout: "alice\n" });
    for (const linuxUser of [undefined, "root", "bob"]) {
      const refused = held.exec({ command: "id", ...(linuxUser === undefined ? {} : { linuxUser }) });
      expect(await expectRefusalV5(refused, "403 FORBIDDEN")).toContain("alice");
    }
    expect(await held.data()).toMatchObject({ id: vm.id });
    for (const call of [
      () => holder.vms.create({ firewall: INTERNET }),
      () => holder.vms.list(),
      () => held.update({ displayName: "x" }),
      () => held.pause(),
      () => held.delete(),
      () => held.firewallRules(),
      () => holder.identities.create(),
      () => holder.identities.list(),
    ]) {
      await expectRefusalV5(call(), "403 FORBIDDEN");
    }
  });

  test("an access token wakes a paused VM, and loses it with its grant", async () => {
    const client = await owner();
    const { vm } = await testVmV5(client);
    const { token, identity } = await testIdentityV5(client, vm);
    const held = tokenClientV5(token).vms.ref(vm.id);
    await vm.pause();
    expect(await held.exec("echo awake")).toMatchObject({ stdout: "awake\n" });
    expect(await vm.data()).toMatchObject({ state: "running" });
    await identity.permissions.vm.revoke(vm.id);
    await expectRefusalV5(held.exec("id"), "404 NOT_FOUND");
  });
});

describe("identities with freestyle 0.2.17", () => {
  test("live their whole life: made, shown, granted, narrowed, listed, revoked, deleted", async () => {
    const { apiKey, accountId } = await newAccount();
    const client = keyClientV5(apiKey);
    const { vm } = await testVmV5(client);
    const { identity, token, tokenId } = await testIdentityV5(client, vm);
    expect(await identity.data()).toEqual({ id: identity.id, accountId, managed: false });
    expect(await client.identities.list()).toEqual({ identities: [{ id: identity.id, managed: false }], total: 1 });
    expect(await identity.tokens.list()).toMatchObject([{ id: tokenId }]);
    expect(await identity.permissions.vm.update(vm.id, ["alice"])).toMatchObject({ allowedLinuxUsers: ["alice"] });
    expect(await identity.permissions.vm.get(vm.id)).toMatchObject({ vmId: vm.id, allowedLinuxUsers: ["alice"] });
    expect(await identity.permissions.vm.list()).toMatchObject([{ vmId: vm.id, identityId: identity.id }]);
    await expectRefusalV5(identity.permissions.vm.grant({ vmId: vm.id }), "409 CONFLICT");
    await identity.tokens.revoke(tokenId);
    await expectRefusalV5(tokenClientV5(token).vms.ref(vm.id).data(), "401 INVALID_API_KEY");
    await identity.delete();
    await expectRefusalV5(identity.data(), "404 NOT_FOUND");
  });

  test("that are managed are shown only when asked for and cannot be deleted", async () => {
    const client = await owner();
    const { identity } = await client.identities.create({ managed: true });
    expect((await client.identities.list()).total).toBe(0);
    expect((await client.identities.list({ includeManaged: true })).total).toBe(1);
    await expectRefusalV5(identity.delete(), "400 BAD_REQUEST");
  });
});

test("the binary that the CLI would execute is never served", async () => {
  const answer = await wire("GET", "/v5/free-tier/binary", null);
  expect(answer).toMatchObject({ status: 404, json: { code: "NOT_FOUND" } });
});
