import { z } from "zod";
import type { SlugWish, VmChange, VmSpec } from "../../../durable-objects/vm-contract.ts";
import { MAX_METADATA_ENTRIES, MAX_METADATA_LENGTH, PLAIN_VM } from "../../../durable-objects/vm-spec.ts";
import { guestGroup, guestUser, publicPorts } from "../../../protocol/host-api.ts";
import { isSnapshotId } from "../../../protocol/ids.ts";
import { isSlug } from "../../../protocol/slug.ts";
import type { Edge } from "../../edge.ts";
import { HONOURED, NOT_OFFERED } from "../../services/honoured.ts";
import type { VmUpdate } from "../../services/vms-update.ts";
import { firewallBody, newRules } from "./firewall-rules.ts";

const YEAR_S = 365 * 24 * 3600;
const SLUG_RULE =
  "must be 1 to 63 of a-z, 0-9 and hyphens, without a hyphen first, last or twice in a row, and not in the form of a VM id";

const slug = z.string().refine(isSlug, SLUG_RULE);
const label = z.string().max(256);
const metadataText = z.string().max(MAX_METADATA_LENGTH);

/** Seconds, at least `min`; -1 means none. */
const seconds = (min: number, max: number) =>
  z
    .int()
    .max(max)
    .refine((value) => value === -1 || value >= min, `must be at least ${min}, or -1 for none`);
const idleSeconds = seconds(1, YEAR_S).refine((value) => value === -1 || HONOURED.idleTimeoutSeconds, NOT_OFFERED);
const autoDeleteSeconds = seconds(0, 10 * YEAR_S);
const ttlSeconds = seconds(1, 10 * YEAR_S);

/** Members that the SDK can send and no host can follow, with the values that ask for nothing. */
const unhonoured = {
  maxRunSeconds: z.literal(-1, NOT_OFFERED).nullish(),
  maxRunTotalSeconds: z.literal(-1, NOT_OFFERED).nullish(),
  automaticRestart: z.literal(false, NOT_OFFERED).nullish(),
};

const none = z.array(z.unknown()).max(0, NOT_OFFERED).nullish();

/** Body of `POST /v5/vms` (contract section 3.3). */
export const createVmBody = z
  .strictObject({
    firewall: firewallBody,
    snapshotId: z
      .string()
      .refine(() => HONOURED.snapshotId, NOT_OFFERED)
      .refine(isSnapshotId, "must be a snapshot's id")
      .nullish(),
    slug: slug.nullish(),
    reassignSlug: z.boolean().default(false),
    displayName: label.nullish(),
    idleTimeoutSeconds: idleSeconds.nullish(),
    autoDeleteSeconds: autoDeleteSeconds.nullish(),
    ttlSeconds: ttlSeconds.nullish(),
    metadata: z
      .record(metadataText.min(1), metadataText.min(1))
      .refine((entries) => Object.keys(entries).length <= MAX_METADATA_ENTRIES, `has at most ${MAX_METADATA_ENTRIES} entries`)
      .default({}),
    /** Not in the SDK's types, which pass it through: as in 0.1. */
    users: z.array(guestUser).max(256).default([]),
    groups: z.array(guestGroup).max(256).default([]),
    /** Nor these. */
    ports: publicPorts.default([]),
    ...unhonoured,
    vpcs: none,
    networks: none,
    placement: z
      .strictObject({
        region: z.string().max(64).nullish(),
        driver: z.string().max(32).nullish(),
        spreadGroup: z.string().min(1).max(63).nullish(),
      })
      .nullish(),
    tls: z.strictObject({ rules: z.array(z.unknown()).max(0, NOT_OFFERED) }).nullish(),
  })
  .refine(({ reassignSlug, slug: wanted }) => !reassignSlug || typeof wanted === "string", {
    message: "needs a slug",
    path: ["reassignSlug"],
  });

export function toSpec(edge: Edge, body: z.output<typeof createVmBody>): VmSpec {
  return {
    ...PLAIN_VM,
    name: body.displayName ?? null,
    metadata: body.metadata,
    idleTimeoutSeconds: orNone(body.idleTimeoutSeconds),
    autoDeleteSeconds: orNone(body.autoDeleteSeconds),
    ttlSeconds: orNone(body.ttlSeconds),
    users: body.users,
    groups: body.groups,
    snapshotId: body.snapshotId ?? null,
    ports: body.ports,
    placement: {
      region: body.placement?.region ?? null,
      driver: body.placement?.driver ?? null,
      spreadGroup: body.placement?.spreadGroup ?? null,
    },
    firewall: newRules(edge, body.firewall),
    slug: toWish(body.slug ?? "", body.reassignSlug),
  };
}

/** Body of `PATCH /v5/vms/{vmId}` (contract section 3.4). */
export const updateVmBody = z
  .strictObject({
    slug: z.union([z.literal(""), slug], SLUG_RULE).optional(),
    reassignSlug: z.boolean().default(false),
    displayName: label.optional(),
    idleTimeoutSeconds: idleSeconds.optional(),
    autoDeleteSeconds: autoDeleteSeconds.optional(),
    ttlSeconds: ttlSeconds.optional(),
    metadata: z.record(metadataText.min(1), metadataText).optional(),
    ports: publicPorts.optional(),
    ...unhonoured,
  })
  .refine(({ reassignSlug, slug: wanted }) => !reassignSlug || (wanted ?? "") !== "", {
    message: "needs a slug",
    path: ["reassignSlug"],
  });

export function toUpdate(body: z.output<typeof updateVmBody>): VmUpdate {
  const { displayName, idleTimeoutSeconds, autoDeleteSeconds: autoDelete, ttlSeconds: ttl, metadata, ports } = body;
  const change: VmChange = {
    ...(displayName === undefined ? {} : { name: displayName === "" ? null : displayName }),
    ...(idleTimeoutSeconds === undefined ? {} : { idleTimeoutSeconds: orNone(idleTimeoutSeconds) }),
    ...(autoDelete === undefined ? {} : { autoDeleteSeconds: orNone(autoDelete) }),
    ...(ttl === undefined ? {} : { ttlSeconds: orNone(ttl) }),
    ...(metadata === undefined ? {} : { metadata }),
    ...(ports === undefined ? {} : { ports }),
  };
  return body.slug === undefined ? { change } : { change, slug: toWish(body.slug, body.reassignSlug) };
}

function toWish(wanted: string, reassign: boolean): SlugWish | null {
  return wanted === "" ? null : { slug: wanted, reassign };
}

function orNone(value: number | null | undefined): number | null {
  return value === undefined || value === -1 ? null : value;
}
