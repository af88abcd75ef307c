import { beforeAll, describe, expect, it } from "vitest";
import { type Account, call, grantPath, must, newAccount, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

const IDENTITIES = "/identity/v1/identities";

let world: World;
let account: Account;
let vmId: string;
beforeAll(async () => {
  world = await openWorld();
  account = await newAccount();
  vmId = await newVm(account);
});

const send = (method: string, path: string, body?: unknown) => call(path, { method, key: account.key, body });
const codeOf = async (response: Response) => `${response.status} ${(await response.json<{ code: string }>()).code}`;

it("an identity is made without a body, listed by page, deleted, and then is not there", async () => {
  const owner = await newAccount();
  const ids: string[] = [];
  for (let count = 0; count < 3; count += 1) {
    const made = await must<{ id: string; managed: boolean }>(IDENTITIES, { method: "POST", key: owner.key });
    expect(made.managed).toBe(false);
    ids.push(made.id);
  }
  const all = await must<{ identities: { id: string }[] }>(`${IDENTITIES}?offset=0`, { key: owner.key });
  expect(all).toMatchObject({ offset: 0, total: 3 });
  expect(all.identities.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
  const second = await must<{ identities: { id: string }[] }>(`${IDENTITIES}?offset=1&limit=1`, { key: owner.key });
  expect(second).toMatchObject({ offset: 1, total: 3, identities: [all.identities[1]] });
  expect(await must(`${IDENTITIES}/${ids[0]}`, { method: "DELETE", key: owner.key })).toEqual({});
  expect(await must(IDENTITIES, { key: owner.key })).toMatchObject({ total: 2 });
  const again = await call(`${IDENTITIES}/${ids[0]}`, { method: "DELETE", key: owner.key });
  expect(await codeOf(again)).toBe("404 IDENTITY_NOT_FOUND");
});

it.each(["offset=-1", "offset=x", "limit=0", "limit=1.5", "includeManaged=maybe"])(
  "a list asked with %s is a bad request",
  async (query) => {
    expect(await codeOf(await send("GET", `${IDENTITIES}?${query}`))).toBe("400 BAD_REQUEST");
  },
);

describe("another account's identity, and one that does not exist, are not found", () => {
  const routes: readonly (readonly [method: string, suffix: string, body: object | undefined])[] = [
    ["DELETE", "", undefined],
    ["POST", "/tokens", undefined],
    ["GET", "/tokens", undefined],
    ["DELETE", "/tokens/aaaaaaaaaaaaaaaa", undefined],
    ["GET", "/permissions/vm", undefined],
    ["GET", "/permissions/vm/VM", undefined],
    ["POST", "/permissions/vm/VM", {}],
    ["PUT", "/permissions/vm/VM", { allowedUsers: null }],
    ["DELETE", "/permissions/vm/VM", undefined],
  ];
  it.each(routes)("%s %s", async (method, suffix, body) => {
    const foreign = await newIdentity(world.account);
    const answers = [];
    for (const id of [foreign.id, "a".repeat(16), "no-identity", encodeURIComponent("../x")]) {
      const response = await send(method, `${IDENTITIES}/${id}${suffix.replace("VM", vmId)}`, body);
      expect(response.status).toBe(404);
      answers.push(await response.text());
    }
    expect(answers[0]).toContain("IDENTITY_NOT_FOUND");
    expect(new Set(answers).size).toBe(1);
  });
});

describe("tokens", () => {
  it("are shown once, listed without their secret, and revoked by id", async () => {
    const { id } = await newIdentity(account);
    const body = { name: "laptop", expiresInSeconds: 3600 };
    const made = await must<{ id: string; token: string }>(`${IDENTITIES}/${id}/tokens`, {
      method: "POST",
      key: account.key,
      body,
    });
    expect(made).toEqual({ id: expect.any(String), token: expect.stringMatching(/^pst_[a-z2-7]{46}$/) });
    const list = await must<{ tokens: object[] }>(`${IDENTITIES}/${id}/tokens`, { key: account.key });
    expect(list.tokens).toContainEqual({
      id: made.id,
      name: "laptop",
      createdAt: expect.any(String),
      expiresAt: expect.any(String),
    });
    expect(JSON.stringify(list)).not.toContain(made.token.slice(20, 44));
    expect(await must(`${IDENTITIES}/${id}/tokens/${made.id}`, { method: "DELETE", key: account.key })).toEqual({});
    expect((await call("/auth/v1/whoami", { token: made.token })).status).toBe(401);
    expect((await send("DELETE", `${IDENTITIES}/${id}/tokens/unknown`)).status).toBe(404);
  });

  it.each([{ expiresInSeconds: 0 }, { expiresInSeconds: -5 }, { expiresInSeconds: 1e12 }, { expiresInSeconds: "60" }, { name: 7 }])(
    "are refused as %j",
    async (body) => {
      const { id } = await newIdentity(account);
      expect(await codeOf(await send("POST", `${IDENTITIES}/${id}/tokens`, body))).toBe("400 BAD_REQUEST");
    },
  );

  it("revoked leave the identity's other tokens alone", async () => {
    const { id, token, tokenId } = await newIdentity(account);
    const other = await must<{ token: string }>(`${IDENTITIES}/${id}/tokens`, { method: "POST", key: account.key });
    await must(`${IDENTITIES}/${id}/tokens/${tokenId}`, { method: "DELETE", key: account.key });
    expect((await call("/auth/v1/whoami", { token })).status).toBe(401);
    expect((await call("/auth/v1/whoami", { token: other.token })).status).toBe(200);
  });
});

describe("grants", () => {
  it("are made, shown, listed, replaced and revoked", async () => {
    const { id, token } = await newIdentity(account);
    const record = { id: expect.any(String), vmId, identityId: id, grantedAt: expect.any(String), grantedBy: expect.any(String) };
    expect(await (await send("POST", grantPath(id, vmId), {})).json()).toEqual({ ...record, allowedUsers: null });
    expect(await must(grantPath(id, vmId), { key: account.key })).toEqual({ ...record, allowedUsers: null });
    const replaced = await send("PUT", grantPath(id, vmId), { allowedUsers: ["bob", "bob"] });
    expect(await replaced.json()).toEqual({ ...record, allowedUsers: ["bob"] });
    expect(await must(`${IDENTITIES}/${id}/permissions/vm?offset=0`, { key: account.key })).toEqual({
      permissions: [{ ...record, allowedUsers: ["bob"] }],
      offset: 0,
      total: 1,
    });
    expect(await must(grantPath(id, vmId), { method: "DELETE", key: account.key })).toEqual({});
    expect((await call(`/v1/vms/${vmId}`, { token })).status).toBe(404);
    for (const method of ["GET", "DELETE"])
      expect(await codeOf(await send(method, grantPath(id, vmId)))).toBe("404 VM_PERMISSION_NOT_FOUND");
    expect(await codeOf(await send("PUT", grantPath(id, vmId), { allowedUsers: null }))).toBe("404 VM_PERMISSION_NOT_FOUND");
  });

  it("are replaced only with a list or null: without the member the request is refused and says so", async () => {
    const { id } = await newIdentity(account, [vmId], ["alice"]);
    for (const body of [{}, undefined]) {
      const response = await send("PUT", grantPath(id, vmId), body);
      expect(response.status).toBe(400);
      expect((await response.json<{ message: string }>()).message).toContain("allowedUsers: is required");
    }
    expect(await must(grantPath(id, vmId), { key: account.key })).toMatchObject({ allowedUsers: ["alice"] });
  });

  it.each([["Root"], ["a,b"], ["a:b"], ["-x"], [""], ["x".repeat(33)], [7], "alice", {}].map((allowedUsers) => ({ allowedUsers })))(
    "are refused for %j",
    async (body) => {
      const { id } = await newIdentity(account, [vmId]);
      for (const method of ["POST", "PUT"])
        expect(await codeOf(await send(method, grantPath(id, vmId), body))).toBe("400 BAD_REQUEST");
    },
  );
});
