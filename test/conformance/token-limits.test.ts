import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { deleteVm, keyClient, newAccount, type TestIdentity, testIdentity, testVm, tokenClient } from "../system/fixture.ts";
import { expectRefusal, PACKAGE_63, PACKAGES, type Sdk } from "../system/sdk.ts";
import { wire } from "../system/wire.ts";

describe.each(PACKAGES)("an access token with $name", (from) => {
  let owner: Sdk;
  let vmId: string;
  let holder: TestIdentity;
  let client: Sdk;
  beforeAll(async () => {
    owner = keyClient(from, (await newAccount()).apiKey);
    ({ vmId } = await owner.vms.create({ users: [{ name: "alice" }, { name: "bob" }] }));
    holder = await testIdentity(owner, [{ vmId }]);
    client = tokenClient(from, holder.token);
  });
  afterAll(() => deleteVm(owner, vmId));

  test("may not create, list, delete, stop, suspend, resize, snapshot or fork VMs", async () => {
    const vm = client.vms.ref({ vmId });
    for (const call of [
      () => client.vms.create({}),
      () => client.vms.list(),
      () => client.vms.delete({ vmId }),
      () => vm.delete(),
      () => vm.stop(),
      () => vm.suspend(),
      () => vm.resize({ memSizeGb: 1, rootfsSizeGb: 1, vcpuCount: 1 }),
      () => vm.snapshot(),
      () => vm.fork(),
    ]) {
      await expectRefusal(from, call(), "ForbiddenError");
    }
    expect(await owner.vms.ref({ vmId }).getInfo()).toMatchObject({ state: "running" });
  });

  test("may not touch identities, tokens or permissions, its own included", async () => {
    const own = client.identities.ref({ identityId: holder.identityId });
    for (const call of [
      () => client.identities.create(),
      () => client.identities.list(),
      () => client.identities.delete({ identityId: holder.identityId }),
      () => own.tokens.create(),
      () => own.tokens.list(),
      () => own.tokens.revoke({ tokenId: holder.tokenId }),
      () => own.permissions.vms.grant({ vmId }),
      () => own.permissions.vms.get({ vmId }),
      () => own.permissions.vms.list(),
      () => own.permissions.vms.update({ vmId, allowedUsers: null }),
      () => own.permissions.vms.revoke({ vmId }),
    ]) {
      await expectRefusal(from, call(), "ForbiddenError");
    }
    expect(await holder.identity.tokens.list()).toMatchObject({ tokens: [{ id: holder.tokenId }] });
  });

  test("reads and wakes the VM that was granted", async () => {
    expect(await client.vms.ref({ vmId }).getInfo()).toMatchObject({ id: vmId });
    expect(await client.vms.ref({ vmId }).start()).toMatchObject({ id: vmId });
  });

  test("with a list of users acts as those only, and is told which", async () => {
    const { token } = await testIdentity(owner, [{ vmId, allowedUsers: ["alice"] }]);
    const vm = tokenClient(from, token).vms.ref({ vmId });
    const alice = vm.user({ username: "alice" });
    expect(await alice.exec("id -un")).toMatchObject({ stdout: "alice\n" });
    expect((await alice.fs.readDir("/")).length).toBeGreaterThan(5);
    for (const other of [vm, vm.user({ username: "bob" }), vm.user({ username: "root" }), vm.user({ username: "mallory" })]) {
      for (const call of [
        () => other.exec("id"),
        () => other.fs.readTextFile("/etc/hostname"),
        () => other.fs.writeTextFile("/tmp/no", "no"),
      ]) {
        const body = await expectRefusal(from, call(), "VmAccessDeniedError");
        expect(body.message).toContain("alice");
      }
    }
    expect(await vm.getInfo()).toMatchObject({ id: vmId });
  });

  test("with root in the list needs no user() for root, and still no other user", async () => {
    const { token } = await testIdentity(owner, [{ vmId, allowedUsers: ["root"] }]);
    const vm = tokenClient(from, token).vms.ref({ vmId });
    expect(await vm.exec("id -un")).toMatchObject({ stdout: "root\n" });
    await expectRefusal(from, vm.user({ username: "alice" }).exec("id"), "VmAccessDeniedError");
  });

  test("with an empty list of users acts as nobody", async () => {
    const { token } = await testIdentity(owner, [{ vmId, allowedUsers: [] }]);
    const vm = tokenClient(from, token).vms.ref({ vmId });
    await expectRefusal(from, vm.exec("id"), "VmAccessDeniedError");
    await expectRefusal(from, vm.user({ username: "alice" }).exec("id"), "VmAccessDeniedError");
  });

  test("that is forged or of another kind is refused as unauthorised", async () => {
    const changed = `${holder.token.slice(0, -1)}${holder.token.endsWith("a") ? "b" : "a"}`;
    const unknown = `pst_${"a".repeat(46)}`;
    for (const wrong of [changed, unknown, "pst_", "nonsense", `${holder.token}a`, holder.token.toUpperCase()]) {
      await expectRefusal(from, tokenClient(from, wrong).vms.ref({ vmId }).exec("id"), "UnauthorizedErrorError");
    }
  });
});

describe("to an access token", () => {
  const [from] = PACKAGES;
  if (from === undefined) throw new Error("no package");

  test("a VM that is not granted and one that does not exist answer the same bytes on every route", async () => {
    const owner = keyClient(from, (await newAccount()).apiKey);
    const { vmId: granted } = await testVm(owner);
    const { vmId: ungranted } = await testVm(owner);
    const { vmId: foreign } = await testVm(keyClient(from, (await newAccount()).apiKey));
    const { token } = await testIdentity(owner, [{ vmId: granted }]);
    const routes: readonly (readonly [method: string, path: (vmId: string) => string, body?: unknown])[] = [
      ["GET", (id) => `/v1/vms/${id}`],
      ["POST", (id) => `/v1/vms/${id}/start`, {}],
      ["POST", (id) => `/v1/vms/${id}/exec-await`, { command: "id", terminal: null, timeoutMs: null }],
      ["GET", (id) => `/v1/vms/${id}/files/${encodeURIComponent("/etc/hostname")}`],
      ["PUT", (id) => `/v1/vms/${id}/files/${encodeURIComponent("/tmp/x")}`, { content: "", encoding: "base64" }],
    ];
    for (const [method, path, body] of routes) {
      const answers = await Promise.all(
        [ungranted, foreign, "aaaaaaaaaaaaaaaaaaaa"].map((vmId) => wire(method, path(vmId), { token }, body)),
      );
      expect(answers.map(({ status }) => status)).toEqual([404, 404, 404]);
      expect(new Set(answers.map(({ text }) => text)).size, `${method} ${path("…")}`).toBe(1);
      expect(new Set(answers.map(({ headers }) => headerNames(headers))).size).toBe(1);
    }
  });

  test("whoami says its account and identity; to a key, the account alone", async () => {
    const { apiKey, accountId } = await newAccount();
    const { token, identityId } = await testIdentity(keyClient(from, apiKey));
    expect((await wire("GET", "/auth/v1/whoami", { token })).json).toEqual({ accountId, identityId });
    expect((await wire("GET", "/auth/v1/whoami", { apiKey })).json).toEqual({ accountId });
    // 0.1.46 asks a relative URL, which Node cannot fetch; 0.1.63 is right.
    expect(await tokenClient(PACKAGE_63, token).whoami()).toEqual({ accountId, identityId });
    expect(await keyClient(PACKAGE_63, apiKey).whoami()).toEqual({ accountId });
    expect(await wire("GET", "/auth/v1/whoami", null)).toMatchObject({ status: 401 });
  });

  test("what opens is the credential that was shown: a key shown as a token and a token shown as a key open nothing more", async () => {
    const { apiKey } = await newAccount();
    const { token } = await testIdentity(keyClient(from, apiKey));
    expect(await wire("POST", "/v1/vms", null, {}, { "x-freestyle-identity-access-token": apiKey })).toMatchObject({ status: 401 });
    expect((await wire("POST", "/v1/vms", { apiKey: token }, {})).status).toBeGreaterThanOrEqual(401);
    expect((await wire("POST", "/v1/vms", { apiKey: token }, {})).status).toBeLessThanOrEqual(403);
  });
});

function headerNames(headers: Headers): string {
  return [...headers.keys()].toSorted().join(",");
}
