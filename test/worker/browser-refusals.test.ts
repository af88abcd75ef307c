import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { beforeAll, describe, expect, it } from "vitest";
import { bindings } from "../durable-objects/objects.ts";
import { served } from "./support/served.ts";
import { newAccount, ORIGIN, openWorld } from "./support/world.ts";

beforeAll(() => openWorld());

/** Sends what a page would, to an edge with settings or bindings of its own. */
async function fromPage(path: string, headers: Record<string, string>, changed: object, init: RequestInit = {}): Promise<Response> {
  const context = createExecutionContext();
  const request = { ...init, headers: { origin: "https://app.example", ...headers } };
  const response = await served(`${ORIGIN}${path}`, request, { ...bindings, ...changed }, context);
  await waitOnExecutionContext(context);
  return response;
}

/** What a browser asks before it lets a page read an answer, and what the page then finds there. */
async function expectReadable(response: Response, status: number): Promise<void> {
  expect(response.status).toBe(status);
  expect(response.headers.get("access-control-allow-origin")).toBe("*");
  const exposed = response.headers.get("access-control-expose-headers")?.split(",");
  expect(exposed).toEqual(expect.arrayContaining(["x-freestyle-trace-id", "retry-after"]));
  expect(await response.json()).toMatchObject({ code: expect.any(String), message: expect.any(String) });
}

const away = () => {
  throw new Error("the object is away");
};

const faulty = () => ({
  checkKey: async () => {
    throw Object.assign(new TypeError("x is undefined"), { remote: true });
  },
});

describe.each(["/v1/vms", "/v5/vms"])("a page can read why %s refused", (path) => {
  const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

  it("401, without a credential", async () => {
    await expectReadable(await fromPage(path, {}, {}), 401);
  });

  it("404, a VM that is not there", async () => {
    const { key } = await newAccount();
    await expectReadable(await fromPage(`${path}/aaaaaaaaaaaaaaaaaaaa`, bearer(key), {}), 404);
  });

  it("429, too many requests, and when to come again", async () => {
    const { key } = await newAccount();
    const tight = { RATE_PRINCIPAL_PER_S: "1", RATE_PRINCIPAL_BURST: "1" };
    await fromPage(path, bearer(key), tight);
    const refused = await fromPage(path, bearer(key), tight);
    expect(refused.headers.get("retry-after")).toMatch(/^[1-9]\d*$/);
    await expectReadable(refused, 429);
  });

  it("413, a body that is too long", async () => {
    const { key } = await newAccount();
    const long = JSON.stringify({ name: "x".repeat(100) });
    const init = { method: "POST", body: long };
    const headers = { ...bearer(key), "content-type": "application/json", "content-length": String(long.length) };
    await expectReadable(await fromPage(path, headers, { MAX_JSON_BYTES: "10" }, init), 413);
  });

  it("503, an object that is away", async () => {
    const { key } = await newAccount();
    await expectReadable(await fromPage(path, bearer(key), { ACCOUNT: { getByName: away } }), 503);
  });

  it("500, a fault of ours", async () => {
    const { key } = await newAccount();
    await expectReadable(await fromPage(path, bearer(key), { ACCOUNT: { getByName: faulty } }), 500);
  });
});

it("a page can read why a request is refused whose head is too large, since its preflight is answered", async () => {
  const small = { MAX_REQUEST_HEAD_BYTES: "300" };
  const path = `/v1/vms?limit=${"9".repeat(300)}`;
  const asked = { "access-control-request-method": "GET", "access-control-request-headers": "authorization" };
  const preflight = await fromPage(path, asked, small, { method: "OPTIONS" });
  expect([preflight.status, preflight.headers.get("access-control-allow-origin")]).toEqual([204, "*"]);
  await expectReadable(await fromPage(path, {}, small), 431);
});
