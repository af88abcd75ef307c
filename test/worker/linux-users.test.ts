import { beforeAll, describe, expect, it } from "vitest";
import { bodyOf, pathOf, vmEndpoints } from "./support/endpoints.ts";
import { call, grantPath, must, newIdentity, newVm, openWorld, type World } from "./support/world.ts";

let world: World;
let vmId: string;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
});

const inGuest = vmEndpoints.filter(({ endpoint }) => endpoint.path.startsWith("/v1") && /exec-await|files/.test(endpoint.path));

describe.each(inGuest)("$name", ({ endpoint }) => {
  const send = (token: string, linuxUser?: string) =>
    call(pathOf(endpoint, { vmId, identityId: "", tokenId: "" }), {
      method: endpoint.method.toUpperCase(),
      body: bodyOf(endpoint),
      token,
      ...(linuxUser === undefined ? {} : { linuxUser }),
    });

  it("acts as root when nobody is named, and as whoever is", async () => {
    const { token } = await newIdentity(world.account, [vmId]);
    expect((await send(token)).status).toBe(200);
    expect(world.host.calls.at(-1)?.claims.user).toBe("root");
    expect((await send(token, "alice")).status).toBe(200);
    expect(world.host.calls.at(-1)?.claims.user).toBe("alice");
  });

  it("under a list admits only who is listed, tells whom, and reaches no host for others", async () => {
    const { token } = await newIdentity(world.account, [vmId], ["alice", "carol"]);
    expect((await send(token, "alice")).status).toBe(200);
    const before = world.host.calls.length;
    for (const linuxUser of [undefined, "root", "bob"]) {
      const response = await send(token, linuxUser);
      expect(response.status).toBe(403);
      const body = await response.json<{ code: string; message: string }>();
      expect(body).toMatchObject({ code: "VM_ACCESS_DENIED", allowedUsers: ["alice", "carol"] });
      expect(body.message).toContain("alice, carol");
    }
    expect(world.host.calls.length).toBe(before);
  });

  it("under an empty list admits nobody", async () => {
    const { token } = await newIdentity(world.account, [vmId], []);
    expect((await send(token)).status).toBe(403);
  });

  it.each(["Alice", "a b", "-rf", "1st", "a/../b", "root;id", "x".repeat(33)])("refuses %j as a bad request", async (linuxUser) => {
    const { token } = await newIdentity(world.account, [vmId]);
    const before = world.host.calls.length;
    const response = await send(token, linuxUser);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "BAD_REQUEST" });
    expect(world.host.calls.length).toBe(before);
  });
});

it("a bad Linux user with a dead credential is 401, not 400", async () => {
  const { id, tokenId, token } = await newIdentity(world.account, [vmId]);
  await must(`/identity/v1/identities/${id}/tokens/${tokenId}`, { method: "DELETE", key: world.account.key });
  const response = await call(`/v1/vms/${vmId}/exec-await`, { method: "POST", token, linuxUser: "Bad", body: { command: "id" } });
  expect(response.status).toBe(401);
});

it("reading and starting a VM need no Linux user, even under a list", async () => {
  const { token } = await newIdentity(world.account, [vmId], ["alice"]);
  expect((await call(`/v1/vms/${vmId}`, { token })).status).toBe(200);
  expect((await call(`/v1/vms/${vmId}/start`, { method: "POST", token, body: {} })).status).toBe(200);
});

it("a narrowed grant refuses the dropped user at once", async () => {
  const { id, token } = await newIdentity(world.account, [vmId]);
  const exec = (linuxUser: string) =>
    call(`/v1/vms/${vmId}/exec-await`, { method: "POST", token, linuxUser, body: { command: "id" } });
  expect((await exec("bob")).status).toBe(200);
  await must(grantPath(id, vmId), { method: "PUT", key: world.account.key, body: { allowedUsers: ["alice"] } });
  expect((await exec("bob")).status).toBe(403);
  expect((await exec("alice")).status).toBe(200);
});
