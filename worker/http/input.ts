import type { core, ZodType } from "zod";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { type BodyLimits, parseJson, readBody } from "./body.ts";

/**
 * Reads a JSON body within limits and checks it against a schema; an empty body counts as `{}`. `isPlain`: whether the schema is known to
 * take a body as it is.
 */
export async function readJson<T>(
  request: Request,
  limits: BodyLimits,
  schema: ZodType<T>,
  isPlain?: (body: unknown) => boolean,
): Promise<Result<T>> {
  const bytes = await readBody(request, limits);
  if (!bytes.ok) return bytes;
  const json = parseJson(bytes.value);
  if (!json.ok) return json;
  return isPlain?.(json.value) === true ? success(json.value as T) : check(schema, json.value ?? {});
}

/** Most problems of one request that an answer lists. */
const MAX_ISSUES = 5;

/** Checks input from the wire. A refusal says which member is wrong and how, never what was sent. */
export function check<T>(schema: ZodType<T>, value: unknown): Result<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return success(parsed.data);
  const wrong = parsed.error.issues.flatMap(explained).slice(0, MAX_ISSUES);
  const path = wrong[0]?.path.join(".") ?? "";
  return failure("bad-request", wrong.map((one) => `${one.path.join(".") || "request"}: ${one.message}`).join("; "), { path });
}

/** What is wrong and where; members that nobody knows are each named by their own path. */
export function explained(issue: core.$ZodIssue): { readonly path: string[]; readonly message: string }[] {
  const path = issue.path.map(String);
  if (issue.code !== "unrecognized_keys") return [{ path, message: issue.message }];
  return issue.keys.map((key) => ({ path: [...path, key], message: "is not known here: leave it out" }));
}
