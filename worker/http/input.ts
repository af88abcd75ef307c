import type { ZodType } from "zod";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { type BodyLimits, parseJson, readBody } from "./body.ts";

/** Reads a JSON body within limits and checks it against a schema; an empty body counts as `{}`. */
export async function readJson<T>(request: Request, limits: BodyLimits, schema: ZodType<T>): Promise<Result<T>> {
  const bytes = await readBody(request, limits);
  if (!bytes.ok) return bytes;
  const json = parseJson(bytes.value);
  return json.ok ? check(schema, json.value ?? {}) : json;
}

/** Most problems of one request that an answer lists. */
const MAX_ISSUES = 5;

/** Checks input from the wire. A refusal says which member is wrong and how, never what was sent. */
export function check<T>(schema: ZodType<T>, value: unknown): Result<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return success(parsed.data);
  const issues = parsed.error.issues.slice(0, MAX_ISSUES);
  return failure("bad-request", issues.map(({ path, message }) => `${path.join(".") || "request"}: ${message}`).join("; "));
}
