import { z } from "zod";
import type { AccountStanding, Verdict } from "../../durable-objects/contract.ts";
import type { Placement, Tenancy } from "../../durable-objects/vm-contract.ts";
import { publicPort } from "../../protocol/host-api.ts";
import { OPERATIONS } from "../../protocol/operations.ts";
import { isPrincipal } from "../../protocol/subjects.ts";
import type { Fact, Kept } from "./freshness.ts";

/**
 * The forms in which a location keeps facts. What a form does not name is lost on the way through the Cache API, so no member of a
 * fact that a decision hangs on may be optional: then the compiler misses it here.
 */

const time = z.number();
const epoch = z.int().nonnegative();

export const keptVerdict = keptOf<Verdict>(
  z.object({
    subject: z.custom<Verdict["subject"]>(isPrincipal),
    accountId: z.string(),
    credentialId: z.string(),
    vmId: z.string(),
    operation: z.enum(OPERATIONS),
    linuxUser: z.string().nullable(),
    epoch,
    readAt: time,
    expiresAt: time.nullable(),
    grant: z.object({ vmEpoch: epoch.nullable() }).nullable(),
  }),
);

export const keptKey = keptOf<AccountStanding>(z.object({ accountId: z.string(), keyId: z.string(), epoch, readAt: time }));

export const keptTenancy = keptOf<Tenancy>(z.object({ accountId: z.string(), epoch, readAt: time }));

export const keptPlacement = keptOf<Placement>(
  z.object({
    vmId: z.string(),
    accountId: z.string(),
    region: z.string(),
    hostId: z.string(),
    hostUrl: z.string(),
    ports: z.array(publicPort),
    epoch,
    unnotedEpoch: epoch,
    readAt: time,
  }),
);

function keptOf<T extends Fact>(fact: z.ZodType<T>): z.ZodType<Kept<T>> {
  return z.object({ fact, askedAt: time });
}
