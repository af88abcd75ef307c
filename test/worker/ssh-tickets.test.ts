import { createLocalJWKSet, type JSONWebKeySet } from "jose";
import { beforeAll, describe, expect, it } from "vitest";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newObjectName } from "../../protocol/ids.ts";
import { checkTicket, forwarderAudience, hostAudience, type TicketClaims } from "../../protocol/ticket.ts";
import { sshKeyFingerprint } from "../../worker/services/ssh-key.ts";
import { bindings, runSql } from "../durable-objects/objects.ts";
import { enrolService } from "./support/services.ts";
import { FINGERPRINT, PUBLIC_KEY } from "./support/ssh-keys.ts";
import {
  type Account,
  type Call,
  call,
  grantPath,
  type Identity,
  must,
  newAccount,
  newIdentity,
  newVm,
  OPERATOR_KEY,
  openWorld,
  type World,
} from "./support/world.ts";

const FORWARDER_ID = "f".repeat(16);
const ABSENT_VM = "a".repeat(20);

let world: World;
let vmId: string;
let identity: Identity;
beforeAll(async () => {
  world = await openWorld();
  vmId = await newVm(world.account);
  identity = await newIdentity(world.account, [vmId]);
});

/** Verifies a ticket as whoever has this audience would. */
async function verified(ticket: string, audience: string): Promise<TicketClaims> {
  const keys = createLocalJWKSet(await must<JSONWebKeySet>("/.well-known/jwks.json"));
  const checked = await checkTicket(ticket, { getKey: keys, issuer: "postern", audience, now: Date.now() });
  if (!checked.ok) throw new Error(checked.reason);
  return checked.claims;
}

describe("POST /service/v1/ssh-tickets", () => {
  const login = async (body: object, shown?: Call) =>
    call("/service/v1/ssh-tickets", {
      method: "POST",
      ...(shown ?? { key: await world.forwarder.assertion() }),
      body: { vmId, linuxUser: null, token: identity.token, forwarderId: FORWARDER_ID, clientAddress: "192.0.2.1", ...body },
    });
  const refusal = async (response: Response) => `${response.status} ${(await response.json<{ kind: string }>()).kind}`;

  it("mints for the asking forwarder, its region and the VM's host; nobody named is root", async () => {
    const { ticket } = await (await login({})).json<{ ticket: string }>();
    const claims = await verified(ticket, forwarderAudience("local"));
    expect(claims).toMatchObject({
      aud: [hostAudience(world.host.id), forwarderAudience("local")],
      sub: `identity:${identity.id}`,
      azp: `forwarder:${FORWARDER_ID}`,
      vm: vmId,
      user: "root",
      op: "ssh",
      cred: identity.tokenId,
      host_url: world.host.url,
    });
  });

  it("takes an API key for any of its account's VMs", async () => {
    const { ticket } = await (await login({ token: world.account.key, linuxUser: "alice" })).json<{ ticket: string }>();
    expect(await verified(ticket, hostAudience(world.host.id))).toMatchObject({
      sub: `account:${world.account.accountId}`,
      user: "alice",
    });
  });

  it("wants an assertion of a forwarder, whatever the login shows", async () => {
    for (const shown of [
      {},
      { key: world.serviceKey },
      { key: await world.hostService.assertion() },
      { token: await world.forwarder.assertion() },
      { key: identity.token },
      { key: world.account.key },
      { key: OPERATOR_KEY },
      { token: world.serviceKey },
    ]) {
      expect((await login({}, shown)).status).toBe(401);
    }
  });

  it("takes an assertion once, and none of a service that was revoked", async () => {
    const forwarder = await enrolService(world.serviceKey, { kind: "forwarder" });
    const key = await forwarder.assertion();
    expect((await login({}, { key })).status).toBe(200);
    expect(await refusal(await login({}, { key }))).toBe("401 service-key-refused");
    await must(`/operator/v1/regions/local/services/${forwarder.serviceId}`, { method: "DELETE", key: OPERATOR_KEY });
    expect(await refusal(await login({}, { key: await forwarder.assertion() }))).toBe("401 service-key-refused");
  });

  it("mints nothing for a VM of another region, and says where to go", async () => {
    const object = bindings.VM.getByName(vmId);
    await runSql(object, "UPDATE vm SET region = 'elsewhere'");
    const response = await login({});
    await runSql(object, "UPDATE vm SET region = 'local'");
    expect(response.status).toBe(403);
    expect(await response.text()).toContain("elsewhere");
  });

  it.each(["nonsense", "", `pst_${"a".repeat(46)}`])("refuses the token %j", async (token) => {
    expect(await refusal(await login({ token }))).toBe("401 credential-invalid");
  });

  it("refuses a service key shown as a token", async () => {
    expect(await refusal(await login({ token: world.serviceKey }))).toBe("401 credential-invalid");
  });

  it("answers the same bytes for a VM that is not granted, foreign, not there or no id", async () => {
    const foreign = await newVm(await newAccount());
    const answers = await Promise.all(
      [await newVm(world.account), foreign, ABSENT_VM, "no-vm"].map(async (hidden) => (await login({ vmId: hidden })).text()),
    );
    expect(answers[0]).toContain("vm-not-found");
    expect(new Set(answers).size).toBe(1);
    expect(await refusal(await login({ vmId: foreign, token: world.account.key }))).toBe("404 vm-not-found");
  });

  it("under a list of users wants a listed one, and says whom", async () => {
    const { token } = await newIdentity(world.account, [vmId], ["developer"]);
    expect((await login({ token, linuxUser: "developer" })).status).toBe(200);
    for (const linuxUser of [null, "root", "bob"]) {
      const response = await login({ token, linuxUser });
      expect(response.status).toBe(403);
      expect((await response.json<{ message: string }>()).message).toContain("developer");
    }
  });

  it.each([{ linuxUser: "Root" }, { linuxUser: "a;b" }, { forwarderId: "x" }, { vmId: 5 }, { token: "x".repeat(300) }])(
    "refuses %j as a bad request",
    async (body) => {
      expect((await login(body)).status).toBe(400);
    },
  );
});

describe("POST /service/v1/session-checks", () => {
  const checkOf = async (session: object, service = world.forwarder) =>
    call("/service/v1/session-checks", { method: "POST", key: await service.assertion(), body: session });
  const sessionOf = ({ id, tokenId }: Identity, linuxUser = "root") => ({
    vmId,
    linuxUser,
    subject: `identity:${id}`,
    credentialId: tokenId,
  });

  it("answers the epoch of a session that may go on", async () => {
    expect(await (await checkOf(sessionOf(identity))).json()).toEqual({
      epoch: expect.any(Number),
      accountEpoch: expect.any(Number),
      vmEpoch: expect.any(Number),
    });
  });

  it("of an API key too", async () => {
    const { keyId, account } = await accountWithKey();
    const session = { vmId: await newVm(account), linuxUser: "root", subject: `account:${account.accountId}`, credentialId: keyId };
    expect((await checkOf(session)).status).toBe(200);
    expect((await checkOf({ ...session, vmId })).status).toBe(404);
    await must(`/operator/v1/accounts/${account.accountId}/api-keys/${keyId}`, { method: "DELETE", key: OPERATOR_KEY });
    expect((await checkOf(session)).status).toBe(401);
  });

  it.each<[string, (made: Identity) => Promise<unknown>, number]>([
    ["its token is revoked", ({ id, tokenId }) => owner("DELETE", `/identity/v1/identities/${id}/tokens/${tokenId}`), 401],
    ["its identity is deleted", ({ id }) => owner("DELETE", `/identity/v1/identities/${id}`), 401],
    ["its grant is revoked", ({ id }) => owner("DELETE", grantPath(id, vmId)), 404],
    ["its grant no longer lists its user", ({ id }) => owner("PUT", grantPath(id, vmId), { allowedUsers: ["bob"] }), 403],
  ])("ends a session when %s", async (_what, narrow, status) => {
    const made = await newIdentity(world.account, [vmId]);
    expect((await checkOf(sessionOf(made))).status).toBe(200);
    await narrow(made);
    expect((await checkOf(sessionOf(made))).status).toBe(status);
  });

  it("ends a session on a VM that is deleted", async () => {
    const gone = await newVm(world.account);
    const made = await newIdentity(world.account, [gone]);
    await owner("DELETE", `/v1/vms/${gone}`);
    expect((await checkOf({ ...sessionOf(made), vmId: gone })).status).toBe(404);
  });

  it("answers a host about VMs that are placed on it, and about no other", async () => {
    const stranger = await enrolService(world.serviceKey, { kind: "host", hostId: newObjectName(platformRandomBytes) });
    for (const operation of ["ssh", "terminal", "files"]) {
      const session = { ...sessionOf(identity), operation };
      expect((await checkOf(session, world.hostService)).status).toBe(200);
      expect(await (await checkOf(session, stranger)).json()).toMatchObject({ kind: "vm-not-found" });
    }
  });

  it("answers a forwarder about SSH only", async () => {
    for (const operation of ["terminal", "files"]) {
      expect((await checkOf({ ...sessionOf(identity), operation })).status).toBe(404);
    }
  });

  it("wants an assertion", async () => {
    const body = sessionOf(identity);
    for (const key of [identity.token, world.account.key, world.serviceKey, "x"]) {
      expect((await call("/service/v1/session-checks", { method: "POST", key, body })).status).toBe(401);
    }
  });
});

describe("POST /v5/vms/{vmId}/ssh-ticket", () => {
  const ask = (body: object | undefined, shown: Call = { token: identity.token }, vm = vmId) =>
    call(`/v5/vms/${vm}/ssh-ticket`, { method: "POST", body, ...shown });

  it("mints a client's single-use ticket, and tells how to use it", async () => {
    const answer = await (await ask({ linuxUser: "alice" })).json<Record<string, unknown>>();
    expect(answer).toEqual({
      ticket: expect.any(String),
      expiresAt: expect.any(String),
      user: `${vmId}+alice`,
      host: "localhost",
      port: 2222,
      command: `ssh -p 2222 ${vmId}+alice@localhost`,
    });
    const claims = await verified(String(answer.ticket), forwarderAudience("local"));
    expect(claims).toMatchObject({ azp: "client", vm: vmId, user: "alice", op: "ssh" });
    expect(claims.cnf).toBeUndefined();
    expect(Date.parse(String(answer.expiresAt))).toBe(claims.exp * 1000);
  });

  it("binds it to a key that is named", async () => {
    const { ticket } = await (await ask({ publicKey: PUBLIC_KEY })).json<{ ticket: string }>();
    expect((await verified(ticket, forwarderAudience("local"))).cnf).toEqual({ ssh: FINGERPRINT });
  });

  it("takes an API key, and no body", async () => {
    expect((await ask(undefined, { key: world.account.key })).status).toBe(200);
  });

  it.each([
    { publicKey: "ssh-ed25519 AAAA" },
    { publicKey: PUBLIC_KEY.replace("ssh-ed25519", "ssh-rsa") },
    { publicKey: "" },
    { linuxUser: "Bad" },
    { linuxUser: 5 },
  ])("refuses %j as a bad request", async (body) => {
    const response = await ask(body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "BAD_REQUEST" });
  });

  it("under a list of users wants a listed one", async () => {
    const { token } = await newIdentity(world.account, [vmId], ["alice"]);
    expect((await ask({ linuxUser: "alice" }, { token })).status).toBe(200);
    expect((await ask({}, { token })).status).toBe(403);
  });
});

describe("a public key's fingerprint", () => {
  it("is the one that ssh-keygen prints", async () => {
    expect(await sshKeyFingerprint(PUBLIC_KEY)).toBe(FINGERPRINT);
    expect(await sshKeyFingerprint(`  ${PUBLIC_KEY}\n`)).toBe(FINGERPRINT);
  });

  it.each(["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-ed25519 AAAA", `${PUBLIC_KEY}\n${PUBLIC_KEY}`, "x".repeat(9000)])(
    "is nothing for %j",
    async (line) => {
      expect(await sshKeyFingerprint(line)).toBeNull();
    },
  );
});

function owner(method: string, path: string, body?: object): Promise<unknown> {
  return must(path, { method, key: world.account.key, body });
}

async function accountWithKey(): Promise<{ account: Account; keyId: string }> {
  const account = await newAccount();
  const { keys } = await must<{ keys: { id: string }[] }>(`/operator/v1/accounts/${account.accountId}/api-keys`, {
    key: OPERATOR_KEY,
  });
  return { account, keyId: keys[0]?.id ?? "" };
}
