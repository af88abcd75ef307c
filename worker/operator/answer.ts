import { z } from "zod";
import type { Result } from "../../protocol/failures.ts";
import { success } from "../../protocol/failures.ts";
import { authenticateOperator } from "../auth/operator.ts";
import type { Edge, EdgeContext } from "../edge.ts";
import { failureAnswer, jsonAnswer } from "../http/answers.ts";
import { requestLimits } from "../http/body.ts";
import { readJson } from "../http/input.ts";
import { limitFailures } from "../limits/rate-limits.ts";

const keyBody = z.object({ name: z.string().max(128).nullish() });

/** Answers the operator, and nobody else. */
export async function answer(c: EdgeContext, handle: (edge: Edge) => Promise<Result<unknown>>): Promise<Response> {
  const edge = c.env;
  const operator = await limitFailures(edge, await authenticateOperator(edge, c.req.raw.headers));
  const result = operator.ok ? await handle(edge) : operator;
  if (!result.ok) return failureAnswer(result.failure, "v5", edge.settings);
  return result.value instanceof Response ? result.value : jsonAnswer(result.value);
}

/** Reads the optional name of a key that is made. */
export async function withName<T>(
  edge: Edge,
  c: EdgeContext,
  use: (name: string | null) => Promise<Result<T>>,
): Promise<Result<T>> {
  const body = await readJson(c.req.raw, requestLimits(edge), keyBody);
  return body.ok ? use(body.value.name ?? null) : body;
}

/** An empty answer for what has nothing to say. */
export async function done(result: Promise<Result<null>>): Promise<Result<Record<string, never>>> {
  const settled = await result;
  return settled.ok ? success({}) : settled;
}
