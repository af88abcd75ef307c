import { z } from "zod";
import type { SnapshotRecord, SnapshotState } from "../../../durable-objects/contract.ts";
import { internetRule } from "../../services/firewall.ts";
import {
  buildSnapshot,
  changeSnapshot,
  forkVm,
  listSnapshots,
  readSnapshot,
  removeSnapshot,
  takeSnapshotOrBackground,
} from "../../services/snapshots.ts";
import { domainsOf } from "../../vm-names/domains.ts";
import { mappedUnlessPending } from "../background.ts";
import { accountEndpoint, type Endpoint } from "../endpoint.ts";
import { flagQuery } from "../paging.ts";
import { isoTime, mapped } from "../translate.ts";
import { createBody, shownCreateBody } from "./create-body.ts";

const VM = "/v1/vms/{vmId}";
const SNAPSHOTS = "/v1/vms/snapshots";

const name = z.string().max(256).nullish();

/** A snapshot is kept until it is deleted. */
const kept = z
  .strictObject({
    type: z.enum(["persistent", "sticky"], "is not offered here but as persistent or sticky"),
    priority: z.int().min(0).max(10).nullish(),
  })
  .nullish();

const row = z.object({
  snapshotId: z.string(),
  state: z.string(),
  sourceVmId: z.string(),
  accountId: z.string(),
  createdAt: z.string(),
  name: z.string().nullable(),
  failed: z.boolean(),
  cancelled: z.literal(false),
  lost: z.literal(false),
  failureReason: z.string().nullable(),
  deleted: z.boolean(),
  snapshotPersistence: z.object({ type: z.literal("persistent") }),
  vcpuCount: z.int().nullable(),
  memSizeMib: z.int().nullable(),
  rootfsSizeMb: z.int().nullable(),
});

const count = z.int();

/** Without a flag the list holds what a VM can begin with. `cancelled` and `lost` never come about here. */
const listQuery = z.object({
  includeDeleted: flagQuery,
  includeFailed: flagQuery,
  includeBuilding: flagQuery,
  includeCancelled: flagQuery,
  includeLost: flagQuery,
});

/** Snapshots and forks (contract section 3.2). Their paths come before those of VMs, whose ids `snapshots` would be. */
export const snapshotEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "post",
    path: `${VM}/snapshot`,
    summary: "Capture a VM's disk as it is now",
    body: z.strictObject({ name, persistence: kept }),
    answer: z.object({ snapshotId: z.string(), sourceVmId: z.string(), sourceVmInstanceId: z.string() }),
    handle: async (edge, { accountId }, { path, body }) => {
      const wish = { sourceVmId: path.vmId, name: body.name ?? null, slug: null };
      return mappedUnlessPending(await takeSnapshotOrBackground(edge, accountId, wish), toTaken);
    },
  }),
  accountEndpoint({
    method: "post",
    path: `${VM}/fork`,
    summary: "Copy a VM with its disk as it is now",
    body: z.strictObject({ count: z.int().positive().nullish() }),
    answer: z.object({
      vmId: z.string(),
      forks: z.array(z.object({ id: z.string(), domains: z.array(z.string()), consoleUrl: z.null() })),
    }),
    handle: async (edge, { accountId }, { path, body }) =>
      mapped(await forkVm(edge, accountId, path.vmId, body.count ?? 1), ({ vmId, forks }) => ({
        vmId,
        forks: forks.map(({ id }) => ({ id, domains: domainsOf(edge, id), consoleUrl: null })),
      })),
  }),
  accountEndpoint({
    method: "post",
    path: SNAPSHOTS,
    summary: "Build a snapshot from a description",
    body: createBody,
    shownBody: shownCreateBody,
    invalidBody: "snapshot-bad-request",
    answer: z.object({ snapshotId: z.string() }),
    handle: async (edge, { accountId }, { body }) =>
      mapped(await buildSnapshot(edge, accountId, { ...body, firewall: [internetRule(edge)] }), ({ id }) => ({ snapshotId: id })),
  }),
  accountEndpoint({
    method: "get",
    path: SNAPSHOTS,
    summary: "List snapshots, with counts by state",
    query: listQuery,
    answer: z.object({
      snapshots: z.array(row),
      totalCount: count,
      buildingCount: count,
      readyCount: count,
      failedCount: count,
      cancelledCount: count,
      lostCount: count,
      deletedCount: count,
    }),
    handle: async (edge, { accountId }, { query }) => {
      const page = { offset: 0, limit: edge.settings.MAX_PAGE_SIZE };
      const listed = await listSnapshots(edge, accountId, { ...page, states: statesOf(query), sourceVmId: null });
      return mapped(listed, ({ snapshots, total, counts }) => ({
        snapshots: snapshots.map(toRow),
        totalCount: total,
        buildingCount: counts.building,
        readyCount: counts.ready,
        failedCount: counts.failed,
        cancelledCount: 0,
        lostCount: 0,
        deletedCount: counts.deleted,
      }));
    },
  }),
  accountEndpoint({
    method: "get",
    path: `${SNAPSHOTS}/{snapshotId}`,
    summary: "Show a snapshot",
    answer: row,
    handle: async (edge, { accountId }, { path }) => mapped(await readSnapshot(edge, accountId, path.snapshotId), toRow),
  }),
  accountEndpoint({
    method: "patch",
    path: `${SNAPSHOTS}/{snapshotId}`,
    summary: "Rename a snapshot",
    body: z.strictObject({ name: z.string().max(256).nullable() }),
    answer: z.object({ snapshot_id: z.string(), name: z.string().nullable() }),
    handle: async (edge, { accountId }, { path, body }) =>
      mapped(await changeSnapshot(edge, accountId, path.snapshotId, body), (changed) => ({
        snapshot_id: changed.id,
        name: changed.name,
      })),
  }),
  accountEndpoint({
    method: "delete",
    path: `${SNAPSHOTS}/{snapshotId}`,
    summary: "Delete a snapshot; VMs that began with it stay",
    answer: z.object({ snapshot_id: z.string() }),
    handle: async (edge, { accountId }, { path }) =>
      mapped(await removeSnapshot(edge, accountId, path.snapshotId), ({ id }) => ({ snapshot_id: id })),
  }),
];

function statesOf(query: z.output<typeof listQuery>): SnapshotState[] {
  return [
    "ready",
    ...(query.includeBuilding ? (["building"] as const) : []),
    ...(query.includeFailed ? (["failed"] as const) : []),
    ...(query.includeDeleted ? (["deleted"] as const) : []),
  ];
}

function toRow(snapshot: SnapshotRecord): z.output<typeof row> {
  const { id, state, resources } = snapshot;
  return {
    snapshotId: id,
    // 0.1 has no state for it: `deleted` says so.
    state: state === "deleted" ? "ready" : state,
    sourceVmId: snapshot.sourceVmId,
    accountId: snapshot.accountId,
    createdAt: isoTime(snapshot.createdAt),
    name: snapshot.name,
    failed: state === "failed",
    cancelled: false,
    lost: false,
    failureReason: snapshot.failureReason,
    deleted: state === "deleted",
    snapshotPersistence: { type: "persistent" },
    vcpuCount: resources.cpu ?? null,
    memSizeMib: resources.memory ?? null,
    rootfsSizeMb: resources.storage ?? null,
  };
}

/** What taking a snapshot answers. */
export function toTaken({ id, sourceVmId }: SnapshotRecord) {
  return { snapshotId: id, sourceVmId, sourceVmInstanceId: sourceVmId };
}
