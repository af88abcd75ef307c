import { z } from "zod";

const MAX_LENGTH = 4096;

/** A path as 0.2 may send it (contract section 4.5): absolute, and without `..`, so that it means what it says. */
export const absolutePath = z
  .string()
  .max(MAX_LENGTH)
  .startsWith("/", "must be absolute")
  .refine((path) => !path.includes("\0"), "must not hold NUL")
  .refine((path) => path.isWellFormed(), "must be Unicode text")
  .refine((path) => !path.split("/").includes(".."), "must not hold '..'");

/** Superset of 0.2: whom to act as. Absent: root. */
export const userQuery = z.object({ linuxUser: z.string().optional() });

export const pathQuery = userQuery.extend({ path: absolutePath });

/** The Linux user that a query names. */
export function namedUser({ query }: { readonly query: z.output<typeof userQuery> }): string | null {
  return query.linuxUser ?? null;
}

/** Permission bits of a file that 0.2 makes. */
export const NEW_FILE_MODE = 0o600;

export const permissionBits = z.int().min(0).max(0o7777);

export const sha256 = z
  .string()
  .regex(/^[0-9a-fA-F]{64}$/, "must be 64 hexadecimal digits")
  .transform((digits) => digits.toLowerCase());

/** A whole number in a query, in decimal. */
export const queryNumber = z
  .string()
  .regex(/^\d{1,15}$/, "must be a whole number")
  .transform(Number);
