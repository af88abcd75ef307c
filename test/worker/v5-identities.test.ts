import { beforeAll, describe, expect, it } from "vitest";
import { type Account, call, must, newAccount, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

const BASE = "/v5/identities";

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
const grants = (id: string, vm = "") => `${BASE}/${id}/permissions/vm${vm === "" ? "" : `/${vm}`}`;

describe("identities", () => {
  it("are made, shown with their account, listed with a total and no offset, and deleted with an empty 204", async () => {
    const owner = await newAccount();
    const as = { key: owner.key };
    const made = await must<{ id: string; managed: boolean }>(BASE, { method: "POST", body: {}, ...as });
    expect(made).toEqual({ id: expect.any(String), managed: false });
    expect(await must(`${BASE}/${made.id}`, as)).toEqual({ id: made.id, accountId: owner.accountId, managed: false });
    expect(await must(BASE, as)).toEqual({ identities: [made], total: 1 });
    const deleted = await call(`${BASE}/${made.id}`, { method: "DELETE", ...as });
    expect([deleted.status, await deleted.text()]).toEqual([204, ""]);
    expect(await codeOf(await call(`${BASE}/${made.id}`, as))).toBe("404 NOT_FOUND");
    expect(await codeOf(await call(`${BASE}/${made.id}`, { method: "DELETE", ...as }))).toBe("404 NOT_FOUND");
  });

  it("that are managed are listed only when asked for and cannot be deleted, in either dialect", async () => {
    const owner = await newAccount();
    const as = { key: owner.key };
    const { id } = await must<{ id: string }>(BASE, { method: "POST", body: { managed: true }, ...as });
    expect(await must(BASE, as)).toEqual({ identities: [], total: 0 });
    expect(await must(`${BASE}?includeManaged=true`, as)).toEqual({ identities: [{ id, managed: true }], total: 1 });
    expect(await codeOf(await call(`${BASE}/${id}`, { method: "DELETE", ...as }))).toBe("400 BAD_REQUEST");
    const old = await call(`/identity/v1/identities/${id}`, { method: "DELETE", ...as });
    expect(await codeOf(old)).toBe("403 CANNOT_DELETE_MANAGED_IDENTITY");
    expect(await must(`${BASE}/${id}`, as)).toMatchObject({ id, managed: true });
  });

  it.each([{ managed: "yes" }, { manage: true }, [], 7])("are refused as %j", async (body) => {
    expect(await codeOf(await send("POST", BASE, body))).toBe("400 BAD_REQUEST");
  });
});

describe("another account's identity, and one that does not exist, are not found", () => {
  const routes: readonly (readonly [method: string, suffix: string, body: object | undefined])[] = [
    ["GET", "", undefined],
    ["DELETE", "", undefined],
    ["POST", "/tokens", {}],
    ["GET", "/tokens", undefined],
    ["DELETE", "/tokens/aaaaaaaaaaaaaaaa", undefined],
    ["GET", "/permissions/vm", undefined],
    ["POST", "/permissions/vm", { vmId: "VM" }],
    ["GET", "/permissions/vm/VM", undefined],
    ["PATCH", "/permissions/vm/VM", { allowedLinuxUsers: null }],
    ["DELETE", "/permissions/vm/VM", undefined],
  ];
  it.each(routes)("%s %s", async (method, suffix, body) => {
    const foreign = await newIdentity(world.account);
    const answers = [];
    for (const id of [foreign.id, "a".repeat(16), "no-identity"]) {
      const sent = body === undefined ? undefined : JSON.parse(JSON.stringify(body).replace("VM", vmId));
      const response = await send(method, `${BASE}/${id}${suffix.replace("VM", vmId)}`, sent);
      expect(response.status).toBe(404);
      answers.push(await response.text());
    }
    expect(new Set(answers).size).toBe(1);
  });
});

describe("tokens", () => {
  it("are shown once, listed as a bare array without their secret, and revoked with an empty 204", async () => {
    const { id } = await newIdentity(account);
    const made = await must<{ id: string; token: string }>(`${BASE}/${id}/tokens`, { method: "POST", key: account.key, body: {} });
    expect(made).toEqual({ id: expect.any(String), token: expect.stringMatching(/^pst_[a-z2-7]{46}$/) });
    const list = await must<{ id: string }[]>(`${BASE}/${id}/tokens`, { key: account.key });
    expect(list.map((token) => token.id)).toContain(made.id);
    expect(JSON.stringify(list)).not.toContain(made.token.slice(20, 44));
    const revoked = await send("DELETE", `${BASE}/${id}/tokens/${made.id}`);
    expect([revoked.status, await revoked.text()]).toEqual([204, ""]);
    expect((await call("/auth/v1/whoami", { token: made.token })).status).toBe(401);
    expect(await codeOf(await send("DELETE", `${BASE}/${id}/tokens/${made.id}`))).toBe("404 NOT_FOUND");
  });
});

describe("grants", () => {
  it("name the VM in the body, are listed as a bare array, shown, narrowed by PATCH and revoked with an empty 204", async () => {
    const { id } = await newIdentity(account);
    const record = { id: expect.any(String), identityId: id, vmId, grantedAt: expect.any(String), grantedBy: expect.any(String) };
    expect(await (await send("POST", grants(id), { vmId })).json()).toEqual({ ...record, allowedLinuxUsers: null });
    const narrowed = await send("PATCH", grants(id, vmId), { allowedLinuxUsers: ["bob"] });
    expect(await narrowed.json()).toEqual({ ...record, allowedLinuxUsers: ["bob"] });
    expect(await must(grants(id), { key: account.key })).toEqual([{ ...record, allowedLinuxUsers: ["bob"] }]);
    expect(await must(grants(id, vmId), { key: account.key })).toEqual({ ...record, allowedLinuxUsers: ["bob"] });
    const revoked = await send("DELETE", grants(id, vmId));
    expect([revoked.status, await revoked.text()]).toEqual([204, ""]);
    expect(await codeOf(await send("GET", grants(id, vmId)))).toBe("404 NOT_FOUND");
  });

  it("made twice conflict, and take a VM by its id only", async () => {
    const { id } = await newIdentity(account, [vmId]);
    expect(await codeOf(await send("POST", grants(id), { vmId }))).toBe("409 CONFLICT");
    await must(`/v5/vms/${vmId}`, { method: "PATCH", key: account.key, body: { slug: "granted" } });
    expect(await codeOf(await send("POST", grants(id), { vmId: "granted" }))).toBe("404 NOT_FOUND");
  });

  it.each([{}, { allowedLinuxUsers: ["Root"] }, { allowedLinuxUsers: "bob" }, { allowedUsers: ["bob"] }])(
    "are not changed by %j",
    async (body) => {
      const { id } = await newIdentity(account, [vmId], ["alice"]);
      expect(await codeOf(await send("PATCH", grants(id, vmId), body))).toBe("400 BAD_REQUEST");
      expect(await must(grants(id, vmId), { key: account.key })).toMatchObject({ allowedLinuxUsers: ["alice"] });
    },
  );

  it("need a VM in the body", async () => {
    const { id } = await newIdentity(account);
    expect(await codeOf(await send("POST", grants(id), { allowedLinuxUsers: null }))).toBe("400 BAD_REQUEST");
  });
});
