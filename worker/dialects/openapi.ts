import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import type { ZodType } from "zod";
import type { Endpoint } from "./endpoint.ts";

const failed = z.object({ code: z.string(), message: z.string(), error: z.string(), description: z.string() });

const FAILURE = {
  description: "A failure; docs/errors.md lists the codes",
  content: { "application/json": { schema: failed } },
};

const SWITCHED = {
  101: { description: "A WebSocket; `?ticket=` or the subprotocol `postern-ticket.<ticket>` stand in for a credential" },
};

const SECURITY_SCHEMES = {
  bearer: { type: "http", scheme: "bearer", description: "An API key or an access token" },
  identity: { type: "apiKey", in: "header", name: "X-Freestyle-Identity-Access-Token" },
} as const;

/** The API description (OpenAPI 3.1), made from the schemas that check requests; of those that transform, what they read. */
export function describeEndpoints(endpoints: readonly Endpoint[]) {
  const described = new OpenAPIHono();
  for (const [name, scheme] of Object.entries(SECURITY_SCHEMES)) {
    described.openAPIRegistry.registerComponent("securitySchemes", name, scheme);
  }
  for (const endpoint of endpoints) described.openAPIRegistry.registerPath(describe(endpoint));
  return described.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "Postern", version: "1", license: { name: "MIT", url: "https://opensource.org/license/mit" } },
    servers: [{ url: "/" }],
  });
}

/** A name that no other operation has: method and path, in letters, digits and underscores. */
function operationId(method: string, path: string): string {
  return `${method}${path.replaceAll(/\{(\w+)\}/g, "by_$1").replaceAll(/\W+/g, "_")}`;
}

function describe({ method, path, summary, query, body, shownBody = body, answer, admission }: Endpoint) {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => [name, z.string()] as const);
  return createRoute({
    method,
    path,
    operationId: operationId(method, path),
    summary,
    security: admission.access === "account" ? [{ bearer: [] }] : [{ bearer: [] }, { identity: [] }],
    request: {
      ...(names.length === 0 ? {} : { params: z.object(Object.fromEntries(names)) }),
      ...(query instanceof z.ZodObject ? { query } : {}),
      ...(shownBody === undefined ? {} : { body: { content: { "application/json": { schema: shownBody } } } }),
    },
    responses: {
      ...(admission.access === "vm-socket" ? SWITCHED : success(answer)),
      "4XX": FAILURE,
      "5XX": FAILURE,
    },
  });
}

/** What is not offered has no success. */
function success(answer: ZodType) {
  if (answer instanceof z.ZodNever) return {};
  if (answer instanceof z.ZodVoid) return { 204: { description: "Success, without a body" } };
  return { 200: { description: "Success", content: { "application/json": { schema: answer } } } };
}
