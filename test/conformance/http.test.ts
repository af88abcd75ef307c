import { describe, expect, test } from "vitest";
import { keyClient, newAccount, system } from "../system/fixture.ts";
import { PACKAGE_63 } from "../system/sdk.ts";
import { type WireAnswer, wire } from "../system/wire.ts";

const ABSENT_VM = "aaaaaaaaaaaaaaaaaaaa";

function expectErrorBody(answer: WireAnswer, status: number, code: string): void {
  expect(answer.status).toBe(status);
  expect(answer.headers.get("content-type")).toContain("application/json");
  expect(answer.json).toMatchObject({ code, error: code, message: expect.any(String), description: expect.any(String) });
  expect(answer.headers.get("x-freestyle-trace-id")).toEqual(expect.any(String));
}

describe("every refusal is JSON with all members that the packages read, and a trace id", () => {
  test("without a credential", async () => {
    for (const [method, path] of [
      ["GET", "/v1/vms"],
      ["POST", "/v1/vms"],
      ["GET", `/v1/vms/${ABSENT_VM}`],
      ["POST", `/v1/vms/${ABSENT_VM}/exec-await`],
      ["DELETE", `/v1/vms/${ABSENT_VM}`],
      ["GET", "/identity/v1/identities"],
      ["POST", "/identity/v1/identities"],
      ["GET", "/auth/v1/whoami"],
    ] as const) {
      expectErrorBody(await wire(method, path, null), 401, "UNAUTHORIZED_ERROR");
    }
  });

  test("for a route that does not exist", async () => {
    const { apiKey } = await newAccount();
    for (const path of ["/v1/nothing", "/v1/vms/x/y/z", "/identity/v1/nothing", "/v5/free-tier/binary", "/", "/favicon.ico"]) {
      expectErrorBody(await wire("GET", path, { apiKey }), 404, "NOT_FOUND");
    }
  });

  test("for a body that is not JSON", async () => {
    const { apiKey } = await newAccount();
    const headers = { "content-type": "application/json", authorization: `Bearer ${apiKey}` };
    const response = await fetch(`${system.apiUrl}/v1/vms`, { method: "POST", headers, body: "{not json" });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: expect.any(String), message: expect.any(String) });
    expect((await keyClient(PACKAGE_63, apiKey).vms.list()).vms).toEqual([]);
  });

  test("whose trace ids differ from request to request", async () => {
    const answers = await Promise.all([1, 2, 3].map(() => wire("GET", "/v1/vms", null)));
    expect(new Set(answers.map(({ headers }) => headers.get("x-freestyle-trace-id"))).size).toBe(3);
  });
});

test("a browser may call the API from any page: the preflight allows every method and header that the packages send", async () => {
  const requested = [
    "authorization",
    "content-type",
    "range",
    "user-agent",
    "x-freestyle-identity-access-token",
    "x-freestyle-vm-linux-user-id",
    "x-freestyle-sdk",
    "x-freestyle-sdk-version",
    "x-freestyle-background-after-secs",
    "x-freestyle-team-id",
  ];
  for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE"]) {
    const answer = await wire("OPTIONS", `/v1/vms/${ABSENT_VM}/exec-await`, null, undefined, {
      origin: "https://app.example",
      "access-control-request-method": method,
      "access-control-request-headers": requested.join(","),
    });
    expect(answer.status).toBeLessThan(300);
    expect(answer.headers.get("access-control-allow-origin")).toMatch(/^(\*|https:\/\/app\.example)$/);
    expect(answer.headers.get("access-control-allow-methods")).toContain(method);
    const allowed = answer.headers.get("access-control-allow-headers")?.toLowerCase().split(/, */);
    expect(allowed).toEqual(expect.arrayContaining(requested));
  }
});

test("a browser may read the headers that the packages read, on refusals too", async () => {
  const answer = await wire("GET", "/v1/vms", null, undefined, { origin: "https://app.example" });
  expect(answer.headers.get("access-control-allow-origin")).toMatch(/^(\*|https:\/\/app\.example)$/);
  expect(answer.headers.get("access-control-expose-headers")?.toLowerCase()).toContain("x-freestyle-trace-id");
});

test("the ticket keys are published, public parts only", async () => {
  const answer = await wire("GET", "/.well-known/jwks.json", null);
  expect(answer.status).toBe(200);
  const keys = answer.json.keys as Record<string, unknown>[];
  expect(keys.length).toBeGreaterThan(0);
  for (const key of keys) {
    expect(key).toMatchObject({ kty: "OKP", crv: "Ed25519", kid: expect.any(String), x: expect.any(String) });
    expect(key).not.toHaveProperty("d");
  }
});
