import { readFileSync } from "node:fs";
import { z } from "zod";

/** A setting was missing or wrong; `message` names every bad one and what it should be. */
export class SettingsError extends Error {}

/** Reads settings from environment variables by a zod schema whose members are the variables' names. */
export function readSettings<Shape extends z.ZodRawShape>(
  schema: z.ZodObject<Shape>,
  env: NodeJS.ProcessEnv,
): z.infer<z.ZodObject<Shape>> {
  const known = Object.fromEntries(
    Object.keys(schema.shape)
      .map((name) => [name, env[name]])
      .filter(([, value]) => value !== undefined && value !== ""),
  );
  const read = schema.safeParse(known, { error: inPlainWords });
  if (read.success) return read.data;
  throw new SettingsError(read.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; "));
}

/** What to say of the commonest mistakes; the rest says zod. */
function inPlainWords({ code, input, expected }: { code?: string; input?: unknown; expected?: unknown }): string | undefined {
  if (code !== "invalid_type") return undefined;
  if (input === undefined) return "is required";
  return expected === "number" || expected === "int" ? "must be a whole number" : undefined;
}

/** A port to listen on; 0 is any free one. */
export function portNumber(fallback: number): z.ZodDefault<z.ZodCoercedNumber> {
  return z.coerce.number().int().min(0).max(65_535).default(fallback) as z.ZodDefault<z.ZodCoercedNumber>;
}

/** A whole number of milliseconds, seconds, bytes or things, at least `min`. */
export function wholeNumber(fallback: number, min = 0): z.ZodDefault<z.ZodCoercedNumber> {
  return z.coerce.number().int().min(min).default(fallback) as z.ZodDefault<z.ZodCoercedNumber>;
}

/** Reads a secret from a file that only its owner may read, so that it is in no argument list and no environment. */
export function readSecretFile(path: string): string {
  const secret = readFileSync(path, "utf8").trim();
  if (secret === "") throw new SettingsError(`${path} is empty`);
  return secret;
}
