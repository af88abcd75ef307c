import { z } from "zod";
import { isLinuxUser } from "../../protocol/linux-user.ts";

/** The Linux users of a grant: `null` admits any. Repeated names are kept once. */
export const allowedLinuxUsers = z
  .array(z.string().refine(isLinuxUser, "must be a Linux user name: ^[a-z_][a-z0-9_-]{0,31}$"))
  .transform((names) => [...new Set(names)])
  .nullable();
