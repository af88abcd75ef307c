import { z } from "zod";
import type { SnapshotRecord, SnapshotState } from "../../../durable-objects/contract.ts";
import { isSlug } from "../../../protocol/slug.ts";
import { NOT_OFFERED } from "../../services/honoured.ts";
import { changeSnapshot, listSnapshots, readSnapshot, removeSnapshot, takeSnapshotOrBackground } from "../../services/snapshots.ts";
import { vmIdOf } from "../../services/vms-slugs.ts";
import { mappedUnlessPending } from "../background.ts";
import { accountEndpoint, type Endpoint } from "../endpoint.ts";
import { pageOf, pageQuery } from "../paging.ts";
import { isoTime, mapped } from "../translate.ts";

const SNAPSHOT = "/v5/snapshots/{snapshotId}";

const snapshotData = z.object({
  id: z.string(),
  sourceVmId: z.string(),
  slug: z.string().nullable(),
  displayName: z.string().nullable(),
  accountId: z.string(),
  state: z.enum(["building", "ready", "failed"]),
  public: z.literal(false),
  autoDeleteSeconds: z.null(),
  ttlSeconds: z.null(),
  lastUsedAt: z.string().nullable(),
  createdAt: z.string(),
  updatedAt: z.string(),
});

const slug = z.string().refine(isSlug, "must be 1 to 63 of a-z, 0-9 and single hyphens inside, and not in the form of an id");
const label = z.string().max(256);
/** A snapshot is kept until it is deleted; -1 says so. */
const kept = {
  autoDeleteSeconds: z.literal(-1, NOT_OFFERED).nullish(),
  ttlSeconds: z.literal(-1, NOT_OFFERED).nullish(),
};

/** What 0.2 is shown of an account's snapshots. */
const SHOWN: readonly SnapshotState[] = ["building", "ready", "failed"];

/** Snapshots (contract section 3.4). `{snapshotId}` is an id or a slug. */
export const snapshotEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "post",
    path: "/v5/vms/{vmId}/snapshot",
    summary: "Capture a VM's disk as it is now",
    body: z.strictObject({ slug: slug.nullish(), displayName: label.nullish(), ...kept }),
    answer: z.object({ snapshotId: z.string(), sourceVmId: z.string(), snapshot: snapshotData }),
    handle: async (edge, { accountId }, { path, body }) => {
      const vmId = await vmIdOf(edge, accountId, path.vmId);
      if (!vmId.ok) return vmId;
      const wish = { sourceVmId: vmId.value, name: body.displayName ?? null, slug: body.slug ?? null };
      return mappedUnlessPending(await takeSnapshotOrBackground(edge, accountId, wish), toTaken);
    },
  }),
  accountEndpoint({
    method: "get",
    path: "/v5/snapshots",
    summary: "List snapshots",
    query: pageQuery.extend({ sourceVmId: z.string().optional() }),
    answer: z.object({ snapshots: z.array(snapshotData), totalCount: z.int() }),
    handle: async (edge, { accountId }, { query }) => {
      const filter = { ...pageOf(query, edge.settings), states: SHOWN, sourceVmId: query.sourceVmId ?? null };
      return mapped(await listSnapshots(edge, accountId, filter), ({ snapshots, total }) => ({
        snapshots: snapshots.map(toData),
        totalCount: total,
      }));
    },
  }),
  accountEndpoint({
    method: "get",
    path: SNAPSHOT,
    summary: "Show a snapshot",
    answer: snapshotData,
    handle: async (edge, { accountId }, { path }) => mapped(await readSnapshot(edge, accountId, path.snapshotId), toData),
  }),
  accountEndpoint({
    method: "patch",
    path: SNAPSHOT,
    summary: "Change a snapshot's slug or name; an empty text takes it away",
    body: z.strictObject({ slug: z.union([z.literal(""), slug]).optional(), displayName: label.optional(), ...kept }),
    answer: snapshotData,
    handle: async (edge, { accountId }, { path, body }) => {
      const change = {
        ...(body.slug === undefined ? {} : { slug: orNone(body.slug) }),
        ...(body.displayName === undefined ? {} : { name: orNone(body.displayName) }),
      };
      return mapped(await changeSnapshot(edge, accountId, path.snapshotId, change), toData);
    },
  }),
  accountEndpoint({
    method: "delete",
    path: SNAPSHOT,
    summary: "Delete a snapshot; VMs that began with it stay",
    answer: z.void(),
    handle: async (edge, { accountId }, { path }) =>
      mapped(await removeSnapshot(edge, accountId, path.snapshotId), () => undefined),
  }),
];

function orNone(text: string): string | null {
  return text === "" ? null : text;
}

/** What taking a snapshot answers. */
export function toTaken(taken: SnapshotRecord) {
  return { snapshotId: taken.id, sourceVmId: taken.sourceVmId, snapshot: toData(taken) };
}

function toData(snapshot: SnapshotRecord): z.output<typeof snapshotData> {
  return {
    id: snapshot.id,
    sourceVmId: snapshot.sourceVmId,
    slug: snapshot.slug,
    displayName: snapshot.name,
    accountId: snapshot.accountId,
    state: snapshot.state === "deleted" ? "failed" : snapshot.state,
    public: false,
    autoDeleteSeconds: null,
    ttlSeconds: null,
    lastUsedAt: snapshot.lastUsedAt === null ? null : isoTime(snapshot.lastUsedAt),
    createdAt: isoTime(snapshot.createdAt),
    updatedAt: isoTime(snapshot.updatedAt),
  };
}
