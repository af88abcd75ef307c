import { z } from "zod";
import type { VmRecord, VmState } from "../../../durable-objects/contract.ts";
import { actAsOwner, createVm, listVms, readVm, startVm } from "../../services/vms.ts";
import { accountEndpoint, type Endpoint, vmEndpoint } from "../endpoint.ts";
import { flagQuery, pageOf, pageQuery } from "../paging.ts";
import { createBody } from "./create-body.ts";
import { isoTime, mapped } from "./translate.ts";

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

const row = info
  .omit({ recreate: true })
  .extend({ deleted: z.boolean(), persistence: z.object({ type: z.literal("persistent") }), sizing });

/** A start may only ask for what start does anyway: to wait until the VM runs. */
const startBody = z.object({
  idleTimeoutSeconds: z.null("cannot be set here").optional(),
  activityThresholdBytes: z.null("cannot be set here").optional(),
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
    invalidBody: "vm-create-bad-request",
    answer: z.object({
      id: z.string(),
      domains: z.array(z.string()),
      consoleUrl: z.null(),
      snapshotId: z.null(),
    }),
    handle: async (edge, account, { body }) =>
      mapped(await createVm(edge, account.accountId, body), ({ id }) => ({
        id,
        domains: [],
        consoleUrl: null,
        snapshotId: null,
      })),
  }),
  accountEndpoint({
    method: "get",
    path: "/v1/vms",
    summary: "List VMs, with counts by state",
    query: pageQuery.extend({ includeDeleted: flagQuery, vmState: z.enum(STATES).optional() }),
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
      const { includeDeleted, vmState } = query;
      const wanted = { ...pageOf(query, edge.settings), includeDeleted, ...(vmState === undefined ? {} : { state: vmState }) };
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
    handle: async (edge, authority) => mapped(await startVm(edge, authority), ({ id }) => ({ id, domains: [], console_url: null })),
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

/** 0.1.63 requires `sizing`; sizes cannot be chosen yet, and 0 says that nobody did. */
function toRow(vm: VmRecord): z.output<typeof row> {
  return {
    ...toInfo(vm),
    deleted: vm.state === "deleted",
    persistence: { type: "persistent" },
    sizing: { vcpuCount: 0, memSizeMib: 0, rootfsSizeMb: 0 },
  };
}
