import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { addressKey, clientAddressOf } from "../../worker/limits/client-address.ts";
import { TokenBuckets } from "../../worker/limits/token-bucket.ts";
import { bindings } from "../durable-objects/objects.ts";
import { served } from "./support/served.ts";
import { type Identity, newAccount, newIdentity, ORIGIN, openWorld, type World } from "./support/world.ts";

let world: World;
let identity: Identity;
beforeAll(async () => {
  world = await openWorld();
  identity = await newIdentity(world.account);
});

/** Sends a request to an edge with settings or bindings of its own. */
async function send(path: string, init: RequestInit, changed: object): Promise<Response> {
  const context = createExecutionContext();
  const response = await served(`${ORIGIN}${path}`, init, { ...bindings, ...changed }, context);
  await waitOnExecutionContext(context);
  return response;
}

const bearer = (key: string) => ({ headers: { authorization: `Bearer ${key}` } });
let lastAddress = 0;
/** An address that no other test uses. */
const freshAddress = () => {
  lastAddress += 1;
  return `192.0.2.${lastAddress}`;
};

describe("one credential", () => {
  const tight = { RATE_PRINCIPAL_PER_S: "1", RATE_PRINCIPAL_BURST: "3" };

  it.each([
    ["/v5/identities", "RATE_LIMITED"],
    ["/v1/vms", "LIMIT_EXCEEDED"],
  ])("that floods %s is refused with %s before any object is asked", async (path, code) => {
    const { key } = await newAccount();
    const statuses = [];
    for (let count = 0; count < 3; count += 1) statuses.push((await send(path, bearer(key), tight)).status);
    expect(statuses).toEqual([200, 200, 200]);
    const ACCOUNT = { getByName: vi.fn() };
    const refused = await send(path, bearer(key), { ...tight, ACCOUNT });
    expect(refused.status).toBe(429);
    expect(refused.headers.get("retry-after")).toMatch(/^[1-9]\d*$/);
    expect(await refused.json()).toMatchObject({ code, error: code });
    expect(ACCOUNT.getByName).not.toHaveBeenCalled();
  });

  it("that floods create of 0.1.63 gets a code that ends its retries", async () => {
    const { key } = await newAccount();
    const init = { ...bearer(key), method: "POST", body: "{}" };
    const responses = [];
    for (let count = 0; count < 4; count += 1) responses.push(await send("/v1/vms", init, { ...tight, RATE_PRINCIPAL_BURST: "1" }));
    expect(await responses[3]?.json()).toMatchObject({ code: "LIMIT_EXCEEDED" });
  });

  it("that floods leaves every other one alone", async () => {
    const [noisy, quiet] = [await newAccount(), await newAccount()];
    for (let count = 0; count < 4; count += 1) await send("/v5/identities", bearer(noisy.key), tight);
    expect((await send("/v5/identities", bearer(noisy.key), tight)).status).toBe(429);
    expect((await send("/v5/identities", bearer(quiet.key), tight)).status).toBe(200);
  });

  it("is not limited when the setting is 0", async () => {
    const off = { ...tight, RATE_PRINCIPAL_PER_S: "0" };
    for (let count = 0; count < 6; count += 1)
      expect((await send("/v5/identities", bearer(world.account.key), off)).status).toBe(200);
  });

  it("is refused by the platform's limiter where one is bound", async () => {
    const limit = vi.fn(async () => ({ success: false }));
    const changed = { RATE_PRINCIPAL_PER_S: "100", PRINCIPAL_RATE_LIMITER: { limit } };
    expect((await send("/v5/identities", bearer((await newAccount()).key), changed)).status).toBe(429);
    expect(JSON.stringify(limit.mock.calls)).not.toContain(world.account.key.slice(20));
  });
});

describe("one address", () => {
  const tight = { RATE_ADDRESS_FAILURES_PER_S: "1", RATE_ADDRESS_FAILURES_BURST: "2" };
  const from = (address: string, headers: Record<string, string> = {}) => ({
    headers: { "cf-connecting-ip": address, ...headers },
  });

  it.each(["/v1/vms", "/v5/identities", "/service/v1/ssh-tickets", "/operator/v1/accounts"])(
    "that shows no live credential too often is refused at %s",
    async (path) => {
      const address = freshAddress();
      const init = { ...from(address, { authorization: "Bearer nonsense" }), method: path.startsWith("/v") ? "GET" : "POST" };
      const statuses = [];
      for (let count = 0; count < 3; count += 1) statuses.push((await send(path, init, tight)).status);
      expect(statuses).toEqual([401, 401, 429]);
    },
  );

  it("that fails too often still serves whoever shows a live credential from there", async () => {
    const address = freshAddress();
    for (let count = 0; count < 4; count += 1) await send("/v5/identities", from(address), tight);
    expect((await send("/v5/identities", from(address), tight)).status).toBe(429);
    const live = from(address, { authorization: `Bearer ${world.account.key}` });
    expect((await send("/v5/identities", live, tight)).status).toBe(200);
    expect((await send("/auth/v1/whoami", from(address, { authorization: `Bearer ${identity.token}` }), tight)).status).toBe(200);
  });

  it("that nobody knows is not limited", async () => {
    for (let count = 0; count < 5; count += 1) expect((await send("/v5/identities", {}, tight)).status).toBe(401);
  });
});

describe("the address of a request", () => {
  const request = (headers: Record<string, string>, cf?: object) => ({ headers: new Headers(headers), cf }) as unknown as Request;

  it("is what Cloudflare says, the peer under workerd whatever the headers say, or what the deployment's proxy says", () => {
    expect(clientAddressOf(request({ "cf-connecting-ip": "192.0.2.1" }), undefined)).toBe("192.0.2.1");
    expect(clientAddressOf(request({ "cf-connecting-ip": "192.0.2.1" }, { clientIp: "198.51.100.7:4711" }), "")).toBe(
      "198.51.100.7",
    );
    expect(clientAddressOf(request({}, { clientIp: "[2001:db8::1]:4711" }), undefined)).toBe("2001:db8::1");
    const forwarded = { "x-forwarded-for": "forged, 203.0.113.9", "cf-connecting-ip": "192.0.2.1" };
    expect(clientAddressOf(request(forwarded), "x-forwarded-for")).toBe("203.0.113.9");
    expect(clientAddressOf(request({}), "x-forwarded-for")).toBeNull();
    expect(clientAddressOf(request({}), undefined)).toBeNull();
  });

  it("counts by /64 in IPv6 and whole in IPv4", () => {
    expect(addressKey("192.0.2.1")).toBe("192.0.2.1");
    expect(addressKey("2001:db8:0:5::1")).toBe(addressKey("2001:DB8::5:ffff:1:2:3"));
    expect(addressKey("2001:db8:0:5::1")).not.toBe(addressKey("2001:db8:0:6::1"));
    expect(addressKey("::ffff:192.0.2.1")).not.toBe(addressKey("::ffff:192.0.2.2"));
    expect(addressKey("::1")).toBe("0:0:0:0::/64");
  });
});

describe("token buckets", () => {
  const rate = { perSecond: 2, burst: 3 };

  it("admit a burst, then the rate, and never more than the burst after a pause", () => {
    const buckets = new TokenBuckets();
    const take = (now: number) => buckets.take("a", rate, 10, now);
    expect([take(0), take(0), take(0), take(0)]).toEqual([true, true, true, false]);
    expect([take(500), take(500), take(999), take(1_000)]).toEqual([true, false, false, true]);
    expect([1, 2, 3, 4].map(() => take(1_000_000))).toEqual([true, true, true, false]);
  });

  it("fill nothing when the clock goes back", () => {
    const buckets = new TokenBuckets();
    for (let count = 0; count < 3; count += 1) buckets.take("a", rate, 10, 10_000);
    expect(buckets.take("a", rate, 10, 5_000)).toBe(false);
  });

  it("hold no more keys than allowed, and forget the quietest first", () => {
    const buckets = new TokenBuckets();
    for (const key of ["a", "b", "a", "c"]) buckets.take(key, { perSecond: 1, burst: 2 }, 2, 0);
    expect(buckets.size).toBe(2);
    expect(buckets.take("a", { perSecond: 1, burst: 2 }, 2, 0)).toBe(false);
    expect(buckets.take("b", { perSecond: 1, burst: 2 }, 2, 0)).toBe(true);
  });
});

describe("a request", () => {
  it("whose headers or URL are too large is refused, in the words of its dialect", async () => {
    const headers = { "x-padding": "x".repeat(40_000) };
    for (const [path, code] of [
      ["/v5/identities", "REQUEST_HEADER_FIELDS_TOO_LARGE"],
      ["/v1/vms", "INVALID_REQUEST"],
    ] as const) {
      const response = await send(path, { headers }, {});
      expect(response.status).toBe(431);
      expect(await response.json()).toMatchObject({ code });
    }
    expect((await send(`/v1/vms?x=${"x".repeat(40_000)}`, {}, {})).status).toBe(431);
    expect((await send("/v1/vms", { headers }, { MAX_REQUEST_HEAD_BYTES: "100000" })).status).toBe(401);
  });

  it.each([
    ["stalls", { BODY_IDLE_TIMEOUT_MS: "20" }],
    ["drips for too long", { JSON_BODY_TIMEOUT_MS: "20" }],
  ])("whose body %s is refused, and the reading of it ends", async (how, changed) => {
    const cancelled = vi.fn();
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        if (how === "stalls") await new Promise(() => undefined);
        await new Promise((resolve) => setTimeout(resolve, 5));
        controller.enqueue(new TextEncoder().encode(" "));
      },
      cancel: cancelled,
    });
    const response = await send("/v5/identities", { ...bearer(world.account.key), method: "POST", body }, changed);
    expect(response.status).toBe(408);
    expect(await response.json()).toMatchObject({ code: "REQUEST_TIMEOUT" });
    expect(cancelled).toHaveBeenCalled();
  });

  it.each([
    ["declared", { "content-length": "10" }],
    ["not declared", {}],
  ])("whose body breaks off, its length %s, is the caller's fault and not the edge's", async (_how, headers) => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(new TextEncoder().encode("{"));
      },
      pull(controller) {
        controller.error(new Error("disconnected"));
      },
    });
    const sent = { method: "POST", headers: { ...bearer(world.account.key).headers, ...headers }, body };
    const response = await send("/v5/identities", sent, {});
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: "BAD_REQUEST" });
  });
});
