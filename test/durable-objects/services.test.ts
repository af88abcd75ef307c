import { abortAllDurableObjects, reset } from "cloudflare:test";
import { SignJWT } from "jose";
import { afterEach, describe, expect, it } from "vitest";
import { REGION_SCHEMA } from "../../durable-objects/region-schema.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newObjectName } from "../../protocol/ids.ts";
import { ASSERTION_CLOCK_TOLERANCE_S, ASSERTION_LIFE_S, ASSERTION_TYPE } from "../../protocol/service-assertion.ts";
import { dumpStorage, freshName, localRegion, must, refusal, runSql, secretHashOf, setClock } from "./objects.ts";
import { type Applicant, enrol, newJoinToken, newService, newServiceKey, newServiceKeys } from "./services.ts";
import { hostHello, joinHost, openFeed } from "./verifiers.ts";

const FORWARDER: Applicant = { kind: "forwarder" };
const aHost = (hostId = freshName()): Applicant => ({ kind: "host", hostId });
const forwarderHello = (id = freshName()) => ({ type: "hello", role: "forwarder", id, version: "1" });

const check = async (assertion: string) => (await localRegion()).checkService(assertion);
const enrolled = async (secret: string, applicant: Applicant) => enrol(secret, applicant, (await newServiceKeys()).publicKey);

afterEach(async () => {
  await reset();
});

describe("a join token", () => {
  it("enrols one service, which then speaks for itself by its own key", async () => {
    const host = await newService(aHost("h".repeat(16)));
    expect(must(await check(await host.assertion()))).toEqual({
      serviceId: host.serviceId,
      region: "local",
      kind: "host",
      hostId: "h".repeat(16),
    });
    expect(refusal(await enrolled(host.joinToken, aHost("h".repeat(16))))).toBe("credential-invalid");
  });

  it("answers the same for the same key, whose first answer may have got lost", async () => {
    const { joinToken, serviceId, publicKey } = await newService(FORWARDER);
    expect(must(await enrol(joinToken, FORWARDER, publicKey)).serviceId).toBe(serviceId);
    const other = await newJoinToken("forwarder");
    expect(refusal(await enrol(other.joinToken, FORWARDER, publicKey))).toBe("conflict");
  });

  it("is for its kind, and for its host if it names one", async () => {
    expect(refusal(await enrolled((await newJoinToken("forwarder")).joinToken, aHost()))).toBe("forbidden");
    expect(refusal(await enrolled((await newJoinToken("host")).joinToken, FORWARDER))).toBe("forbidden");
    expect(refusal(await enrolled((await newJoinToken("host", freshName())).joinToken, aHost()))).toBe("forbidden");
    must(await enrolled((await newJoinToken("host")).joinToken, aHost()));
  });

  it("is good for its life and not longer", async () => {
    const region = await localRegion();
    const { joinToken, expiresAt } = await newJoinToken("forwarder");
    await setClock(region, expiresAt + 1);
    expect(refusal(await enrolled(joinToken, FORWARDER))).toBe("credential-invalid");
    await setClock(region, expiresAt);
    must(await enrolled(joinToken, FORWARDER));
  });

  it("can be revoked until it is used", async () => {
    const region = await localRegion();
    const unused = await newJoinToken("forwarder");
    must(await region.revokeJoinToken(unused.tokenId));
    expect(refusal(await enrolled(unused.joinToken, FORWARDER))).toBe("credential-invalid");
    const used = await newService(FORWARDER);
    expect(refusal(await region.revokeJoinToken(used.tokenId))).toBe("token-not-found");
    expect(refusal(await region.revokeJoinToken("nosuchtoken"))).toBe("token-not-found");
  });

  it("enrols one of many who show it at once", async () => {
    const { joinToken } = await newJoinToken("forwarder");
    const all = await Promise.all(Array.from({ length: 8 }, () => enrolled(joinToken, FORWARDER)));
    expect(all.filter((result) => result.ok)).toHaveLength(1);
  });

  it("is stored as the hash of its secret, and of a service nothing but its public key", async () => {
    const service = await newService(FORWARDER);
    const stored = await dumpStorage(await localRegion());
    expect(stored).toContain(await secretHashOf(service.joinToken));
    expect(stored).not.toContain(service.joinToken.slice(20, 44));
    expect(stored).toContain(service.publicKey.x);
  });
});

describe("a service key", () => {
  it("enrols any number of services, but takes no host's place", async () => {
    const { serviceKey } = await newServiceKey();
    must(await enrolled(serviceKey, FORWARDER));
    must(await enrolled(serviceKey, FORWARDER));
    const host = aHost();
    must(await enrolled(serviceKey, host));
    expect(refusal(await enrolled(serviceKey, host))).toBe("conflict");
  });

  it("that is revoked takes what it enrolled with it, and nothing else", async () => {
    const region = await localRegion();
    const key = await newServiceKey();
    const hostId = freshName();
    const { serviceId } = must(await enrolled(key.serviceKey, aHost(hostId)));
    const cut = await joinHost({ serviceId, id: hostId });
    const kept = await joinHost();
    must(await region.revokeServiceKey(key.keyId));
    expect(await cut.feed.next()).toMatchObject({ type: "refused" });
    expect(await cut.feed.closed).toBe(4003);
    expect(
      must(await region.listHosts())
        .filter((host) => host.connected)
        .map((host) => host.id),
    ).toEqual([kept.id]);
    expect(refusal(await enrolled(key.serviceKey, FORWARDER))).toBe("credential-invalid");
    expect(refusal(await region.revokeServiceKey(key.keyId))).toBe("token-not-found");
  });

  it("of the version before services had keys of their own still enrols", async () => {
    const [first, second] = REGION_SCHEMA;
    const old = "o".repeat(64);
    const region = await localRegion();
    await runSql(region, "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID");
    await runSql(region, `${first}${second} INSERT INTO meta VALUES ('schema', 2); INSERT INTO region VALUES ('local')`);
    await runSql(region, `INSERT INTO service_keys (id, hash, created_at) VALUES ('k', '${old}', 1)`);
    const request = { kind: "forwarder", publicKey: (await newServiceKeys()).publicKey } as const;
    await abortAllDurableObjects();
    expect(must(await (await localRegion()).enrol(old, request))).toMatchObject({ region: "local", issuer: "postern" });
  });
});

describe("a service that lost its key", () => {
  it("takes its place again by a join token that names it, and the old key is dead at once", async () => {
    const id = freshName();
    const old = await newService(aHost(id));
    const feed = (await joinHost({ serviceId: old.serviceId, id })).feed;
    const renewed = await newService(aHost(id));
    expect(await feed.closed).toBe(4003);
    expect(refusal(await check(await old.assertion()))).toBe("credential-invalid");
    must(await check(await renewed.assertion()));
    const { services } = must(await (await localRegion()).listServices({ offset: 0, limit: 10 }));
    expect(services.map((service) => service.id)).toEqual([renewed.serviceId]);
  });
});

describe("a revoked service", () => {
  it("is cut from the feed at once and refused from then on", async () => {
    const region = await localRegion();
    const id = freshName();
    const service = await newService(aHost(id));
    const { feed } = await joinHost({ serviceId: service.serviceId, id });
    must(await region.revokeService(service.serviceId));
    expect(await feed.next()).toMatchObject({ type: "refused" });
    expect(await feed.closed).toBe(4003);
    expect(refusal(await check(await service.assertion()))).toBe("credential-invalid");
    expect(refusal(await region.revokeService(service.serviceId))).toBe("token-not-found");
    expect(refusal(await region.revokeService("nonsense"))).toBe("token-not-found");
  });

  it("whose socket has not said hello yet is cut too", async () => {
    const service = await newService(FORWARDER);
    const feed = await openFeed(service.serviceId);
    must(await (await localRegion()).revokeService(service.serviceId));
    expect(await feed.closed).toBe(4003);
  });
});

describe("an assertion", () => {
  it("is good once", async () => {
    const { assertion } = await newService(FORWARDER);
    const shown = await assertion();
    const all = await Promise.all(Array.from({ length: 4 }, () => check(shown)));
    expect(all.filter((result) => result.ok)).toHaveLength(1);
    must(await check(await assertion()));
  });

  it("is forgotten when it has expired, so that the memory of used ones is bounded", async () => {
    const region = await localRegion();
    const service = await newService(FORWARDER);
    const now = Date.now();
    for (let count = 0; count < 3; count += 1) must(await check(await service.assertion()));
    const later = now + (ASSERTION_LIFE_S + ASSERTION_CLOCK_TOLERANCE_S + 2) * 1000;
    await setClock(region, later);
    must(await check(await service.assertion({ now: later })));
    expect(await runSql(region, "SELECT COUNT(*) AS n FROM assertions")).toEqual([{ n: 1 }]);
  });

  it("of a clock that is 30 s off either way is taken; of one that is far off it is not", async () => {
    const { assertion } = await newService(FORWARDER);
    for (const skew of [-30_000, 30_000]) must(await check(await assertion({ now: Date.now() + skew })));
    for (const skew of [-130_000, 70_000]) {
      expect(refusal(await check(await assertion({ now: Date.now() + skew })))).toBe("credential-invalid");
    }
  });

  it("that anything is wrong with is refused", async () => {
    const service = await newService(FORWARDER);
    const stranger = await newServiceKeys();
    const iat = Math.floor(Date.now() / 1000);
    const claims = { iss: service.serviceId, sub: service.serviceId, aud: "postern", jti: "j".repeat(20), iat, exp: iat + 60 };
    const signed = (changes: object, header: object = {}, key = service.privateKey) =>
      new SignJWT({ ...claims, jti: newObjectName(platformRandomBytes), ...changes })
        .setProtectedHeader({ alg: "EdDSA", typ: ASSERTION_TYPE, ...header })
        .sign(key);
    must(await check(await signed({})));
    for (const bad of [
      await signed({}, {}, stranger.privateKey),
      await signed({}, { typ: "JWT" }),
      await signed({}, { typ: "postern-ticket+jwt" }),
      await signed({ aud: "another deployment" }),
      await signed({ iss: "somebody" }),
      await signed({ jti: "short" }),
      await signed({ jti: undefined }),
      await signed({ exp: iat + 3_600 }),
      await signed({ exp: undefined }),
      await signed({ sub: "nonsense" }),
      `${(await signed({})).slice(0, -4)}AAAA`,
      "a.b.c",
      "",
    ]) {
      expect(refusal(await check(bad)), bad).toBe("credential-invalid");
    }
  });

  it("of a service of another region, or with another's key, is refused", async () => {
    const [one, other] = [await newService(FORWARDER), await newService(FORWARDER)];
    expect(refusal(await check(await one.assertion({ serviceId: other.serviceId })))).toBe("credential-invalid");
    const foreign = `${freshName()}-${one.serviceId.slice(17)}` as const;
    expect(refusal(await check(await one.assertion({ serviceId: foreign })))).toBe("credential-invalid");
  });
});

describe("a service on the feed", () => {
  it("can only say hello as the host that it was enrolled as", async () => {
    const { serviceId } = await newService(aHost());
    for (const hello of [hostHello(freshName()), forwarderHello()]) {
      const feed = await openFeed(serviceId);
      feed.send(hello);
      expect(await feed.next()).toMatchObject({ type: "refused" });
      expect(await feed.closed).toBe(4003);
    }
    expect(must(await (await localRegion()).listHosts())).toEqual([]);
  });

  it("that is a forwarder cannot be a host, nor take the place of another forwarder", async () => {
    const [one, other] = [await newService(FORWARDER), await newService(FORWARDER)];
    const id = freshName();
    const held = await openFeed(one.serviceId);
    held.send(forwarderHello(id));
    await held.next();
    for (const hello of [hostHello(freshName()), forwarderHello(id)]) {
      const feed = await openFeed(other.serviceId);
      feed.send(hello);
      expect(await feed.closed).toBe(4003);
    }
    const again = await openFeed(one.serviceId);
    again.send(forwarderHello(id));
    expect(await again.next()).toMatchObject({ type: "welcome" });
    expect(await held.closed).toBe(4009);
  });
});
