import type { Hono } from "hono";
import { failure, type Result, success } from "../../protocol/failures.ts";
import type { Credential } from "../../protocol/tokens.ts";
import { authenticate } from "../auth/authenticate.ts";
import { resolveAccount, resolvePrincipal } from "../auth/resolve.ts";
import type { Edge, EdgeContext, EdgeHono } from "../edge.ts";
import { type Dialect, failureAnswer, jsonAnswer } from "../http/answers.ts";
import { check, readJson } from "../http/input.ts";
import { authorise } from "../services/authorise.ts";
import type { Endpoint, Input } from "./endpoint.ts";

/** Header with which 0.1 names the Linux user of an operation. */
export const LINUX_USER_HEADER = "x-freestyle-vm-linux-user-id";

/**
 * Serves endpoints in one dialect. Every one goes the same way: authenticate, authorise, read the input, decide,
 * translate; so nothing is parsed for a stranger and no handler can forget who calls.
 */
export function mountEndpoints(app: Hono<EdgeHono>, endpoints: readonly Endpoint[], dialect: Dialect): void {
  for (const endpoint of endpoints) {
    app.on(endpoint.method.toUpperCase(), toHonoPath(endpoint.path), async (c) => {
      const { edge } = c.var;
      const answer = await run(c, endpoint);
      if (!answer.ok) return failureAnswer(answer.failure, dialect, edge.settings);
      return answer.value instanceof Response ? answer.value : jsonAnswer(answer.value);
    });
  }
}

async function run(c: EdgeContext, endpoint: Endpoint): Promise<Result<unknown>> {
  const { edge } = c.var;
  const credential = await authenticate(edge, c.req.raw.headers);
  if (!credential.ok) return credential;
  const path = readPath(endpoint.path, c.req.url);
  const early = endpoint.linuxUser === undefined ? null : await readInput(c, endpoint, path);
  if (early !== null && !early.ok) {
    const principal = await resolvePrincipal(edge, credential.value);
    return principal.ok ? early : principal;
  }
  const linuxUser = early === null ? c.req.header(LINUX_USER_HEADER) : endpoint.linuxUser?.(early.value);
  const caller = await admit(edge, endpoint, credential.value, path.values.vmId ?? "", linuxUser ?? null);
  if (!caller.ok) return caller;
  const input = early ?? (await readInput(c, endpoint, path));
  return input.ok ? endpoint.handle(edge, caller.value, input.value) : input;
}

async function admit(
  edge: Edge,
  { admission }: Endpoint,
  credential: Credential,
  vmId: string,
  linuxUser: string | null,
): Promise<Result<unknown>> {
  switch (admission.access) {
    case "account":
      return resolveAccount(edge, credential);
    case "principal":
      return resolvePrincipal(edge, credential);
    case "vm":
      return authorise(edge, credential, { vmId, operation: admission.operation, linuxUser });
  }
}

/** The named segments of a path; `isText` is false when one is not percent-encoded UTF-8, and then it is empty. */
interface PathSegments {
  readonly values: Readonly<Record<string, string>>;
  readonly isText: boolean;
}

async function readInput(c: EdgeContext, endpoint: Endpoint, path: PathSegments): Promise<Result<Input<string, unknown, unknown>>> {
  if (!path.isText) return failure("bad-request", "The path of the request is not correctly percent-encoded.");
  const query = endpoint.query === undefined ? success(undefined) : check(endpoint.query, c.req.query());
  if (!query.ok) return query;
  const body = await readJsonBody(c, endpoint);
  return body.ok ? success({ path: path.values, query: query.value, body: body.value }) : body;
}

async function readJsonBody(c: EdgeContext, endpoint: Endpoint): Promise<Result<unknown>> {
  if (endpoint.body === undefined) return success(undefined);
  const { settings } = c.var.edge;
  const maxBytes = endpoint.maxBodyBytes?.(settings) ?? settings.MAX_JSON_BYTES;
  const body = await readJson(c.req.raw, maxBytes, endpoint.body);
  if (body.ok || body.failure.kind !== "bad-request" || endpoint.invalidBody === undefined) return body;
  return { ok: false, failure: { ...body.failure, kind: endpoint.invalidBody } };
}

function toHonoPath(path: string): string {
  return path.replaceAll(/\{(\w+)\}/g, ":$1");
}

/**
 * Reads the named segments of a request's path, each decoded once. Read from the raw URL: a file path is one segment
 * whose slashes arrive as `%2F`.
 */
function readPath(pattern: string, url: string): PathSegments {
  const segments = new URL(url).pathname.split("/");
  const values: Record<string, string> = {};
  let isText = true;
  for (const [index, part] of pattern.split("/").entries()) {
    const name = /^\{(\w+)\}$/.exec(part)?.[1];
    if (name === undefined) continue;
    const decoded = decodeSegment(segments[index] ?? "");
    values[name] = decoded ?? "";
    isText &&= decoded !== null;
  }
  return { values, isText };
}

function decodeSegment(segment: string): string | null {
  try {
    return decodeURIComponent(segment);
  } catch {
    return null;
  }
}
