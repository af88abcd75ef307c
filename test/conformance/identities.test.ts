import { describe, expect, test } from "vitest";
import { keyClient, newAccount, testIdentity, testVm, tokenClient } from "../system/fixture.ts";
import { expectRefusal, PACKAGES } from "../system/sdk.ts";

const ABSENT = "aaaaaaaaaaaaaaaa";

describe.each(PACKAGES)("identities with $name", (from) => {
  test("are created, listed page by page, and deleted with everything they hold", async () => {
    const owner = keyClient(from, (await newAccount()).apiKey);
    const { vmId } = await testVm(owner);
    const first = await testIdentity(owner, [{ vmId }]);
    const second = await testIdentity(owner);
    expect(await owner.identities.list()).toMatchObject({ offset: 0, total: 2 });
    const pages = [await owner.identities.list({ limit: 1 }), await owner.identities.list({ limit: 1, cursor: "1" })];
    const listed = pages.flatMap((page) => page.identities.map(({ id, managed }) => ({ id, managed })));
    const known = [first, second].map(({ identityId: id }) => ({ id, managed: false }));
    expect(listed).toEqual(expect.arrayContaining(known));
    expect(listed).toHaveLength(2);

    await owner.identities.delete({ identityId: first.identityId });
    expect((await owner.identities.list()).identities).toMatchObject([{ id: second.identityId }]);
    await expectRefusal(from, tokenClient(from, first.token).vms.ref({ vmId }).exec("true"), "UnauthorizedErrorError");
    await expectRefusal(from, first.identity.tokens.create(), "IdentityNotFoundError");
    await expectRefusal(from, first.identity.tokens.list(), "IdentityNotFoundError");
    await expectRefusal(from, first.identity.permissions.vms.list(), "IdentityNotFoundError");
    await expectRefusal(from, owner.identities.delete({ identityId: first.identityId }), "IdentityNotFoundError");
  });

  test("of another account do not exist, for any call", async () => {
    const owner = keyClient(from, (await newAccount()).apiKey);
    const { vmId } = await testVm(owner);
    const { identityId, tokenId, token } = await testIdentity(owner, [{ vmId }]);
    const stranger = keyClient(from, (await newAccount()).apiKey);
    const { vmId: strangersOwn } = await testVm(stranger);
    const foreign = stranger.identities.ref({ identityId });
    for (const call of [
      () => foreign.tokens.create(),
      () => foreign.tokens.list(),
      () => foreign.tokens.revoke({ tokenId }),
      () => foreign.permissions.vms.grant({ vmId: strangersOwn }),
      () => foreign.permissions.vms.get({ vmId }),
      () => foreign.permissions.vms.list(),
      () => foreign.permissions.vms.update({ vmId, allowedUsers: [] }),
      () => foreign.permissions.vms.revoke({ vmId }),
      () => stranger.identities.delete({ identityId }),
    ]) {
      await expectRefusal(from, call(), "IdentityNotFoundError");
    }
    expect(await tokenClient(from, token).vms.ref({ vmId }).exec("id -un")).toMatchObject({ stdout: "root\n" });
  });

  test("have tokens that are shown once, listed by id only, and end when revoked while others live on", async () => {
    const owner = keyClient(from, (await newAccount()).apiKey);
    const { vmId } = await testVm(owner);
    const { identity, token, tokenId } = await testIdentity(owner, [{ vmId }]);
    const other = await identity.tokens.create();
    expect(token).toMatch(/^[a-z0-9_]{40,50}$/);
    const list = await identity.tokens.list();
    expect(list.tokens.map(({ id }) => id).toSorted()).toEqual([tokenId, other.tokenId].toSorted());
    expect(JSON.stringify(list)).not.toContain(token.slice(-20));

    expect(await tokenClient(from, token).vms.ref({ vmId }).exec("true")).toMatchObject({ statusCode: 0 });
    await identity.tokens.revoke({ tokenId });
    await expectRefusal(from, tokenClient(from, token).vms.ref({ vmId }).exec("true"), "UnauthorizedErrorError");
    await expectRefusal(from, tokenClient(from, token).vms.ref({ vmId }).getInfo(), "UnauthorizedErrorError");
    expect(await tokenClient(from, other.token).vms.ref({ vmId }).exec("true")).toMatchObject({ statusCode: 0 });
    expect((await identity.tokens.list()).tokens).toMatchObject([{ id: other.tokenId }]);
    await expectRefusal(from, identity.tokens.revoke({ tokenId: ABSENT }), "NotFoundError");
  });

  test("have permissions that are granted, read, listed, updated and revoked, each effective at once", async () => {
    const owner = keyClient(from, (await newAccount()).apiKey);
    const { vmId } = await testVm(owner, { users: [{ name: "alice" }] });
    const { identity, identityId, token } = await testIdentity(owner);
    const vm = tokenClient(from, token).vms.ref({ vmId });
    const permissions = identity.permissions.vms;
    await expectRefusal(from, vm.exec("true"), "VmNotFoundError");
    await expectRefusal(from, permissions.get({ vmId }), "VmPermissionNotFoundError");

    const record = { vmId, identityId, grantedAt: expect.any(String), grantedBy: expect.any(String), id: expect.any(String) };
    expect(await permissions.grant({ vmId })).toMatchObject(record);
    expect(await vm.exec("true")).toMatchObject({ statusCode: 0 });
    await expectRefusal(from, permissions.grant({ vmId }), "PermissionAlreadyExistsError");
    expect(await permissions.get({ vmId })).toMatchObject(record);

    expect(await permissions.update({ vmId, allowedUsers: ["alice"] })).toMatchObject({ ...record, allowedUsers: ["alice"] });
    await expectRefusal(from, vm.exec("true"), "VmAccessDeniedError");
    expect(await vm.user({ username: "alice" }).exec("id -un")).toMatchObject({ stdout: "alice\n" });
    expect(await permissions.list()).toMatchObject({ offset: 0, total: 1, permissions: [{ vmId, allowedUsers: ["alice"] }] });

    expect(await permissions.update({ vmId, allowedUsers: null })).toMatchObject(record);
    expect(await vm.exec("id -un")).toMatchObject({ stdout: "root\n" });
    await permissions.revoke({ vmId });
    await expectRefusal(from, vm.exec("true"), "VmNotFoundError");
    expect(await permissions.list()).toMatchObject({ total: 0, permissions: [] });
    await expectRefusal(from, permissions.revoke({ vmId }), "VmPermissionNotFoundError");
    await expectRefusal(from, permissions.update({ vmId, allowedUsers: [] }), "VmPermissionNotFoundError");
  });

  test("cannot be granted a VM that the account does not have, nor a name that no Linux user may have", async () => {
    const { vmId: foreign } = await testVm(keyClient(from, (await newAccount()).apiKey));
    const owner = keyClient(from, (await newAccount()).apiKey);
    const { vmId } = await testVm(owner);
    const { identity } = await testIdentity(owner);
    await expectRefusal(from, identity.permissions.vms.grant({ vmId: foreign }), "VmNotFoundError");
    for (const name of ["Root", "a,b", "a:b", "-x", "", "x".repeat(33)]) {
      await expectRefusal(from, identity.permissions.vms.grant({ vmId, allowedUsers: [name] }), "BadRequestError");
    }
    expect(await identity.permissions.vms.list()).toMatchObject({ total: 0 });
  });
});
