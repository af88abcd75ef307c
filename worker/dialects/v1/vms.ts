import { z } from "zod";
import type { VmChange, VmRecord, VmState } from "../../../durable-objects/vm-contract.ts";
import type { Edge } from "../../edge.ts";
import { internetRule } from "../../services/firewall.ts";
import { actAsOwner, createVmOrBackground, listVms, readVm, startVm } from "../../services/vms.ts";
import { awaitExit } from "../../services/vms-await.ts";
import { changeOnStart } from "../../services/vms-update.ts";
import { domainsOf } from "../../vm-names/domains.ts";
import { mappedUnlessPending } from "../background.ts";
import { accountEndpoint, type Endpoint, vmEndpoint } from "../endpoint.ts";
import { flagQuery, pageOf, pageQuery } from "../paging.ts";
import { isoTime, mapped } from "../translate.ts";
import { createBody, shownCreateBody } from "./create-body.ts";
import { layer } from "./create-layer.ts";

const STATES = ["starting", "running", "suspending", "suspended", "stopped", "lost"] as const satisfies readonly VmState[];

const info = z.object({
  id: z.string(),
  name: z.string().nullable(),
  state: z.string(),
  vmInstanceId: z.string(),
  recreate: z.boolean(),
  createdAt: z.string(),
});

const sizing = z.object({ vcpuCount: z.int(), memSizeMib: z.int(), rootfsSizeMb: z.int() });

const persistence = z.union([
  z.object({ type: z.literal("persistent") }),
  z.object({ type: z.literal("ephemeral"), deleteEvent: z.literal("OnStop") }),
]);

const row = info.omit({ recreate: true }).extend({ deleted: z.boolean(), persistence, sizing, snapshotId: z.string().nullable() });

const { idleTimeoutSeconds, activityThresholdBytes } = layer.shape;

/** A start may change when the VM sleeps; the rest asks for what start does anyway, to wait until the VM runs. */
const startBody = z.strictObject({
  idleTimeoutSeconds,
  activityThresholdBytes,
  readySignalTimeoutSeconds: z.number().nullish(),
  waitForReadySignal: z.boolean().nullish(),
});

/** VMs themselves (contract sections 3.1 and 3.2). */
export const vmEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "post",
    path: "/v1/vms",
    summary: "Create a VM with its users; answers when it runs",
    body: createBody,
    shownBody: shownCreateBody,
    invalidBody: "vm-create-bad-request",
    answer: z.object({
      id: z.string(),
      domains: z.array(z.string()),
      consoleUrl: z.null(),
      snapshotId: z.string().nullable(),
    }),
    handle: async (edge, account, { body }) =>
      mappedUnlessPending(await createVmOrBackground(edge, account.accountId, { ...body, firewall: [internetRule(edge)] }), (vm) =>
        toCreated(edge, vm),
      ),
  }),
  accountEndpoint({
    method: "get",
    path: "/v1/vms",
    summary: "List VMs, with counts by state",
    query: pageQuery.extend({ includeDeleted: flagQuery, vmState: z.enum(STATES).optional(), search: z.string().optional() }),
    answer: z.object({
      vms: z.array(row),
      totalCount: z.int(),
      runningCount: z.int(),
      startingCount: z.int(),
      suspendedCount: z.int(),
      suspendingCount: z.int(),
      stoppedCount: z.int(),
      lostCount: z.int(),
      buildingCount: z.int(),
    }),
    handle: async (edge, account, { query }) => {
      const { includeDeleted, vmState: state, search } = query;
      const wanted = { ...pageOf(query, edge.settings), includeDeleted, state, search };
      return mapped(await listVms(edge, account.accountId, wanted), ({ vms, total, counts }) => ({
        vms: vms.map(toRow),
        totalCount: total,
        runningCount: counts.running,
        startingCount: counts.starting,
        suspendedCount: counts.suspended,
        suspendingCount: counts.suspending,
        stoppedCount: counts.stopped,
        lostCount: counts.lost,
        buildingCount: 0,
      }));
    },
  }),
  vmEndpoint("read", {
    method: "get",
    path: "/v1/vms/{vmId}",
    summary: "Show a VM",
    answer: info,
    handle: async (edge, authority) => mapped(await readVm(edge, authority), (vm) => ({ ...toInfo(vm), recreate: false })),
  }),
  vmEndpoint("start", {
    method: "post",
    path: "/v1/vms/{vmId}/start",
    summary: "Start or wake a VM",
    body: startBody,
    answer: z.object({ id: z.string(), domains: z.array(z.string()), console_url: z.null() }),
    handle: async (edge, authority, { body }) => {
      const changed = await changeOnStart(edge, authority, toChange(body));
      if (!changed.ok) return changed;
      return mapped(await startVm(edge, authority), ({ id }) => ({ id, domains: domainsOf(edge, id), console_url: null }));
    },
  }),
  accountEndpoint({
    method: "post",
    path: "/v1/vms/{vmId}/stop",
    summary: "Stop a VM; its disk stays",
    answer: z.object({ vmId: z.string(), vmInstanceId: z.string() }),
    handle: async (edge, account, { path }) =>
      mapped(await actAsOwner(edge, account.accountId, path.vmId, "stop"), ({ id }) => ({ vmId: id, vmInstanceId: id })),
  }),
  accountEndpoint({
    method: "post",
    path: "/v1/vms/{vmId}/suspend",
    summary: "Suspend a VM; its memory and disk stay",
    answer: z.object({ id: z.string(), vmInstanceId: z.string(), snapshotLayerId: z.null() }),
    handle: async (edge, account, { path }) =>
      mapped(await actAsOwner(edge, account.accountId, path.vmId, "suspend"), ({ id }) => ({
        id,
        vmInstanceId: id,
        snapshotLayerId: null,
      })),
  }),
  accountEndpoint({
    method: "post",
    path: "/v1/vms/{vmId}/kill",
    summary: "Stop a VM at once; its disk stays",
    answer: z.object({ id: z.string() }),
    handle: async (edge, account, { path }) =>
      mapped(await actAsOwner(edge, account.accountId, path.vmId, "stop"), ({ id }) => ({ id })),
  }),
  accountEndpoint({
    method: "post",
    path: "/v1/vms/{vmId}/await",
    summary: "Wait until a VM no longer runs; the answer says how it ended",
    answer: z.object({ id: z.string(), exitStatus: z.string() }),
    handle: async (edge, account, { path }) =>
      awaitExit(edge, account.accountId, path.vmId, ({ id, state }) => ({ id, exitStatus: state })),
  }),
  accountEndpoint({
    method: "delete",
    path: "/v1/vms/{vmId}",
    summary: "Delete a VM and its disk",
    answer: z.object({ id: z.string(), recreate: z.boolean() }),
    handle: async (edge, account, { path }) =>
      mapped(await actAsOwner(edge, account.accountId, path.vmId, "remove"), ({ id }) => ({ id, recreate: false })),
  }),
];

/** A VM has one instance for all its life here, so both ids are the same. */
function toInfo({ id, name, state, createdAt }: VmRecord): Omit<z.output<typeof info>, "recreate"> {
  return { id, name, state, vmInstanceId: id, createdAt: isoTime(createdAt) };
}

function toChange({ idleTimeoutSeconds: idle, activityThresholdBytes: threshold }: z.output<typeof startBody>): VmChange {
  return {
    ...(typeof idle === "number" ? { idleTimeoutSeconds: idle } : {}),
    ...(typeof threshold === "number" ? { activityThresholdBytes: threshold } : {}),
  };
}

/** 0.1.63 requires `sizing`; 0 says that nobody chose. */
function toRow(vm: VmRecord): z.output<typeof row> {
  return {
    ...toInfo(vm),
    deleted: vm.state === "deleted",
    persistence: vm.autoDeleteSeconds === 0 ? { type: "ephemeral", deleteEvent: "OnStop" } : { type: "persistent" },
    sizing: {
      vcpuCount: vm.resources.cpu ?? 0,
      memSizeMib: vm.resources.memory ?? 0,
      rootfsSizeMb: vm.resources.storage ?? 0,
    },
    snapshotId: vm.snapshotId,
  };
}

/** What create answers. */
export function toCreated(edge: Edge, { id, snapshotId }: VmRecord) {
  return { id, domains: domainsOf(edge, id), consoleUrl: null, snapshotId };
}
