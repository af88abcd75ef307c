import { beforeAll, describe, expect, it, vi } from "vitest";
import settingsDocument from "../../docs/edge-settings.md?raw";
import { readSettings } from "../../worker/settings.ts";
import { bindings } from "../durable-objects/objects.ts";
import { everyEndpoint } from "./support/endpoints.ts";
import { tableRows } from "./support/markdown.ts";
import { served } from "./support/served.ts";
import { call, must, newIdentity, ORIGIN, openWorld, type World } from "./support/world.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});

async function expectBody(response: Response, status: number, code: string): Promise<void> {
  expect(response.status).toBe(status);
  expect(response.headers.get("content-type")).toContain("application/json");
  expect(response.headers.get("x-freestyle-trace-id")).toMatch(/^[0-9a-f]{32}$/);
  const body = await response.json<Record<string, unknown>>();
  expect(body).toMatchObject({ code, error: code, message: expect.any(String), description: body.message });
}

describe("an answer is JSON with a known code and a trace id", () => {
  it.each([
    "/",
    "/v1",
    "/v1/nothing",
    "/v1/vms/x/y/z",
    "/identity/v1/nothing",
    "/favicon.ico",
    "/v5/free-tier/binary",
    "/service/v1/x",
    "/operator/v1/x",
    "//v1/vms",
    "/v1/vms/",
  ])("for the unknown path %s, to anybody", async (path) => {
    await expectBody(await call(path), 404, "NOT_FOUND");
    await expectBody(await call(path, { method: "POST", key: "nonsense", body: "{" }), 404, "NOT_FOUND");
  });

  it.each([
    ["PUT", "/v1/vms", "NOT_FOUND", "GET, POST"],
    ["PATCH", "/identity/v1/identities/x/permissions/vm/y", "NOT_FOUND", "DELETE, GET, POST, PUT"],
    ["GET", "/v5/vms/x/ssh-ticket", "METHOD_NOT_ALLOWED", "POST"],
    ["DELETE", "/healthz", "NOT_FOUND", "GET"],
    ["GET", "/operator/v1/accounts", "METHOD_NOT_ALLOWED", "POST"],
  ])("for the method %s of %s", async (method, path, code, allow) => {
    const response = await call(path, { method });
    expect(response.headers.get("allow")).toBe(allow);
    await expectBody(response, 405, code);
  });

  it("for a body that is not JSON, or not UTF-8", async () => {
    const { id } = await newIdentity(world.account);
    const path = `/identity/v1/identities/${id}/tokens`;
    await expectBody(await call(path, { method: "POST", key: world.account.key, body: "{not json" }), 400, "BAD_REQUEST");
    const bytes = await call(path, { method: "POST", key: world.account.key, body: "[1]" });
    await expectBody(bytes, 400, "BAD_REQUEST");
  });

  it("for a body that is too large, declared or not", async () => {
    const { id } = await newIdentity(world.account);
    const body = JSON.stringify({ name: "x".repeat(3 * 1024 * 1024) });
    const path = `/identity/v1/identities/${id}/tokens`;
    await expectBody(await call(path, { method: "POST", key: world.account.key, body }), 413, "INVALID_REQUEST");
  });

  it("for a bug or a broken deployment, without its words", async () => {
    const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
    const broken = { ...bindings, TOKEN_MAC_KEYS: "secret-words-that-are-no-key!" };
    const response = await served(`${ORIGIN}/v1/vms`, { headers: { authorization: "Bearer x" } }, broken);
    const text = await response.clone().text();
    await expectBody(response, 500, "INTERNAL_ERROR");
    expect(text).not.toContain("secret-words");
    expect(JSON.stringify(log.mock.calls)).not.toContain("secret-words");
    expect(JSON.stringify(log.mock.calls)).toContain(response.headers.get("x-freestyle-trace-id"));
    log.mockRestore();
  });
});

it("a request is logged where that is wanted, with its trace id and without its query", async () => {
  const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
  const response = await served(`${ORIGIN}/healthz?ticket=secret`, {}, { ...bindings, LOG_REQUESTS: "1" });
  const lines = log.mock.calls.map(([line]) => JSON.parse(String(line)) as object);
  log.mockRestore();
  const traceId = response.headers.get("x-freestyle-trace-id");
  expect(lines).toContainEqual(
    expect.objectContaining({ event: "request", traceId, method: "GET", path: "/healthz", status: 200 }),
  );
  expect(JSON.stringify(lines)).not.toContain("secret");
});

describe("an object that cannot be reached is 503, never 401", () => {
  it.each([{ retryable: true }, { overloaded: true, retryable: true }, { durableObjectReset: true, remote: true }, {}])(
    "%j",
    async (flags) => {
      const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
      const getByName = vi.fn(() => ({
        checkKey: async () => {
          throw Object.assign(new Error("broken"), flags);
        },
      }));
      const response = await served(
        `${ORIGIN}/v1/vms`,
        { headers: { authorization: `Bearer ${world.account.key}` } },
        { ...bindings, ACCOUNT: { getByName } },
      );
      expect(response.headers.get("retry-after")).toMatch(/^\d+$/);
      await expectBody(response, 503, "SERVICE_UNAVAILABLE");
      expect(getByName).toHaveBeenCalledTimes("retryable" in flags && !("overloaded" in flags) ? 2 : 1);
      log.mockRestore();
    },
  );

  it("but a bug in an object is 500", async () => {
    const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
    const checkKey = async () => {
      throw Object.assign(new TypeError("x is undefined"), { remote: true });
    };
    const broken = { ...bindings, ACCOUNT: { getByName: () => ({ checkKey }) } };
    const response = await served(`${ORIGIN}/v1/vms`, { headers: { authorization: `Bearer ${world.account.key}` } }, broken);
    await expectBody(response, 500, "INTERNAL_ERROR");
    log.mockRestore();
  });
});

describe("a browser may call from any page", () => {
  const asked =
    "authorization, content-type, range, user-agent, x-freestyle-identity-access-token, x-freestyle-vm-linux-user-id, x-freestyle-sdk, x-freestyle-sdk-version, x-freestyle-background-after-secs, x-freestyle-team-id, idempotency-key";

  it.each(["/v1/vms/x/exec-await", "/identity/v1/identities", "/auth/v1/whoami", "/v5/vms/x/ssh-ticket"])("%s", async (path) => {
    for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE"]) {
      const response = await call(path, {
        method: "OPTIONS",
        headers: {
          origin: "https://app.example",
          "access-control-request-method": method,
          "access-control-request-headers": asked,
        },
      });
      expect(response.status).toBe(204);
      expect(response.headers.get("access-control-allow-origin")).toBe("*");
      expect(response.headers.get("access-control-allow-credentials")).toBeNull();
      expect(response.headers.get("access-control-allow-methods")).toContain(method);
      expect(response.headers.get("access-control-allow-headers")?.split(",")).toEqual(asked.split(", "));
    }
    const refused = await call(path, { headers: { origin: "https://app.example" } });
    expect(refused.headers.get("access-control-allow-origin")).toBe("*");
    expect(refused.headers.get("access-control-expose-headers")).toContain("x-freestyle-trace-id");
  });

  it("and whoever is no page is told nothing of it", async () => {
    const answer = await call("/v1/vms", { key: world.account.key });
    expect(answer.headers.get("access-control-allow-origin")).toBeNull();
    expect(answer.headers.get("access-control-expose-headers")).toBeNull();
  });

  it("but not what operators and forwarders use", async () => {
    for (const path of ["/operator/v1/accounts", "/service/v1/ssh-tickets"]) {
      const response = await call(path, { method: "POST", headers: { origin: "https://app.example" } });
      expect(response.headers.get("access-control-allow-origin")).toBeNull();
    }
  });
});

it("no cache keeps what one caller reads or makes, nor that it was refused", async () => {
  const read = await call("/v1/vms", { key: world.account.key });
  expect([read.status, read.headers.get("cache-control")]).toEqual([200, "no-store"]);
  const refused = await call("/v1/vms");
  expect([refused.status, refused.headers.get("cache-control")]).toEqual([401, "no-store"]);
  const made = await call("/identity/v1/identities", { method: "POST", key: world.account.key });
  expect([made.status, made.headers.get("cache-control")]).toEqual([200, "no-store"]);
});

it("what needs no credential: health and the public ticket keys, which may be kept for a minute", async () => {
  expect(await must("/healthz")).toEqual({ ok: true, at: expect.any(Number) });
  const response = await call("/.well-known/jwks.json");
  expect(response.headers.get("cache-control")).toBe("public, max-age=60");
  const { keys } = await response.json<{ keys: object[] }>();
  expect(keys.length).toBeGreaterThan(0);
  for (const key of keys) expect(Object.keys(key)).not.toContain("d");
});

it("the feed is for WebSockets of enrolled services, not of what they enrol with", async () => {
  expect((await call("/service/v1/feed", { headers: { upgrade: "websocket" } })).status).toBe(401);
  expect((await call("/service/v1/feed", { key: world.account.key, headers: { upgrade: "websocket" } })).status).toBe(401);
  expect((await call("/service/v1/feed", { key: world.serviceKey, headers: { upgrade: "websocket" } })).status).toBe(401);
  expect((await call("/service/v1/feed", { key: await world.forwarder.assertion() })).status).toBe(400);
});

it("headers that speak for the edge to the region's object are never the caller's", async () => {
  const headers = { upgrade: "websocket", "postern-feed-region": "other", "postern-feed-service": "other" };
  const response = await call("/service/v1/feed", { key: await world.forwarder.assertion(), headers });
  expect(response.status).toBe(101);
  response.webSocket?.accept();
  response.webSocket?.close();
});

it("the API description has every endpoint", async () => {
  const { openapi, paths } = await must<{ openapi: string; paths: Record<string, object> }>("/openapi.json");
  expect(openapi).toBe("3.1.0");
  for (const { endpoint } of everyEndpoint) expect(paths[endpoint.path]).toHaveProperty(endpoint.method);
});

it("docs/edge-settings.md has every setting with its default", () => {
  const documented = tableRows(settingsDocument).map(([name, value]) => [name, value]);
  for (const [name, value] of Object.entries(readSettings({}))) expect(documented).toContainEqual([`\`${name}\``, String(value)]);
});

it("settings that contradict each other stop the deployment", () => {
  expect(() => readSettings({ HOST_TIMEOUT_MS: "1000" })).toThrow("HOST_TIMEOUT_MS");
  expect(() => readSettings({ MAX_JSON_BYTES: "lots" })).toThrow();
  expect(readSettings({ MAX_JSON_BYTES: "10" }).MAX_JSON_BYTES).toBe(10);
});
