import { z } from "zod";
import { isLinuxUser } from "../../protocol/linux-user.ts";

/** The Linux users of a grant: `null` admits any. Repeated names are kept once. */
export const allowedLinuxUsers = z
  .array(z.string().refine(isLinuxUser, "must be a Linux user name: ^[a-z_][a-z0-9_-]{0,31}$"))
  .transform((names) => [...new Set(names)])
  .nullable();

/** The same where it must be said: leaving it out must not widen a grant by accident. */
export const requiredLinuxUsers = z
  .unknown()
  .refine((value) => value !== undefined, "is required: a list of Linux users, or null for any")
  .pipe(allowedLinuxUsers);
