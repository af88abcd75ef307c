import { type ZodType, z } from "zod";
import type { Endpoint } from "./endpoint.ts";

type Json = Readonly<Record<string, unknown>>;

const FAILURE = {
  description: "A failure; docs/errors.md lists the codes",
  content: {
    "application/json": {
      schema: {
        type: "object",
        required: ["code", "message", "error", "description"],
        properties: Object.fromEntries(["code", "message", "error", "description"].map((name) => [name, { type: "string" }])),
      },
    },
  },
};

const SWITCHED = {
  101: { description: "A WebSocket; `?ticket=` or the subprotocol `postern-ticket.<ticket>` stand in for a credential" },
};

const SECURITY_SCHEMES = {
  bearer: { type: "http", scheme: "bearer", description: "An API key or an access token" },
  identity: { type: "apiKey", in: "header", name: "X-Freestyle-Identity-Access-Token" },
};

/** The API description (OpenAPI 3.1, whose schemas are JSON Schema), made from the schemas that check requests. */
export function describeEndpoints(endpoints: readonly Endpoint[]): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const endpoint of endpoints) {
    paths[endpoint.path] = { ...paths[endpoint.path], [endpoint.method]: describe(endpoint) };
  }
  return {
    openapi: "3.1.0",
    info: { title: "Postern", version: "1", license: { name: "MIT", identifier: "MIT" } },
    servers: [{ url: "/" }],
    components: { securitySchemes: SECURITY_SCHEMES },
    paths,
  };
}

/** A name that no other operation has: method and path, in letters, digits and underscores. */
function operationId(method: string, path: string): string {
  return `${method}${path.replaceAll(/\{(\w+)\}/g, "by_$1").replaceAll(/\W+/g, "_")}`;
}

function describe({ method, path, summary, query, body, answer, admission }: Endpoint): Json {
  const isForKeys = admission.access === "account";
  return {
    operationId: operationId(method, path),
    summary,
    security: isForKeys ? [{ bearer: [] }] : [{ bearer: [] }, { identity: [] }],
    parameters: [...pathParameters(path), ...queryParameters(query)],
    ...(body === undefined ? {} : { requestBody: { content: { "application/json": { schema: jsonSchema(body, "input") } } } }),
    responses: {
      ...(admission.access === "vm-socket" ? SWITCHED : success(answer)),
      "4XX": FAILURE,
      "5XX": FAILURE,
    },
  };
}

function success(answer: ZodType): Json {
  if (answer instanceof z.ZodVoid) return { 204: { description: "Success, without a body" } };
  return { 200: { description: "Success", content: { "application/json": { schema: jsonSchema(answer, "output") } } } };
}

function pathParameters(path: string): readonly Json[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({ name, in: "path", required: true, schema: { type: "string" } }));
}

function queryParameters(query: ZodType | undefined): readonly Json[] {
  const { properties = {}, required = [] } = query === undefined ? {} : jsonSchema(query, "input");
  return Object.entries(properties).map(([name, schema]) => ({ name, in: "query", required: required.includes(name), schema }));
}

function jsonSchema(schema: ZodType, io: "input" | "output") {
  const { $schema: _dialect, ...described } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return described;
}
