import { z } from "zod";
import type { FirewallRule, VmRecord } from "../../../durable-objects/vm-contract.ts";
import { type Result, success } from "../../../protocol/failures.ts";
import type { Edge } from "../../edge.ts";
import { ask, vmObject } from "../../objects.ts";
import { Pending } from "../../services/background.ts";
import { actAsOwner, createVmOrBackground, listVms, readVm, startVm } from "../../services/vms.ts";
import { vmIdOf, withSlug } from "../../services/vms-slugs.ts";
import { updateVm, vmFirewall } from "../../services/vms-update.ts";
import { accountEndpoint, type Endpoint, vmEndpoint } from "../endpoint.ts";
import { pageOf, pageQuery } from "../paging.ts";
import { emptyList, mapped } from "../translate.ts";
import { firewallRuleData, toRuleData } from "./firewall-rules.ts";
import { createVmBody, toSpec, toUpdate, updateVmBody } from "./vm-body.ts";
import { STATES, STORED_STATE, toVmData, vmData } from "./vm-data.ts";

const VM = "/v5/vms/{vmId}";

/** `key:value` pairs, separated by commas; every one must be there. */
const metadataQuery = z.string().transform((text, context) => {
  const pairs = text.split(",").map((pair) => /^([^:]+):(.*)$/s.exec(pair));
  if (pairs.includes(null)) context.addIssue({ code: "custom", message: "must be key:value pairs, separated by commas" });
  return Object.fromEntries(pairs.flatMap((pair) => (pair === null ? [] : [[pair[1] ?? "", pair[2] ?? ""]])));
});

const listQuery = pageQuery.extend({
  state: z.enum(STATES).optional(),
  slug: z.string().optional(),
  snapshotId: z.string().optional(),
  metadata: metadataQuery.optional(),
});

const count = z.int();

/** VMs themselves (contract sections 3.3 and 3.4). `{vmId}` is an id or a slug. */
export const vmEndpoints: readonly Endpoint[] = [
  accountEndpoint({
    method: "post",
    path: "/v5/vms",
    summary: "Create a VM; answers when it runs",
    body: createVmBody,
    answer: vmData.extend({ firewallRules: z.array(firewallRuleData), tlsRules: emptyList }),
    handle: async (edge, { accountId }, { body }) => {
      const spec = toSpec(edge, body);
      const vm = await createVmOrBackground(edge, accountId, spec);
      if (!vm.ok || vm.value instanceof Pending) return vm;
      // Asked again under one key, the VM has the rules of the first time.
      return edge.idempotencyKey === null ? toCreated(edge, vm.value, spec.firewall) : showCreated(edge, vm.value);
    },
  }),
  accountEndpoint({
    method: "get",
    path: "/v5/vms",
    summary: "List VMs, with counts by state",
    query: listQuery,
    answer: z.object({
      vms: z.array(vmData),
      totalCount: count,
      runningCount: count,
      startingCount: count,
      pausingCount: count,
      pausedCount: count,
      stoppedCount: count,
    }),
    handle: async (edge, { accountId }, { query }) => {
      const { state, slug, snapshotId, metadata } = query;
      const stored = state === undefined ? undefined : STORED_STATE[state];
      const wanted = { ...pageOf(query, edge.settings), includeDeleted: false, state: stored, slug, snapshotId, metadata };
      return mapped(await listVms(edge, accountId, wanted), ({ vms, total, counts }) => ({
        vms: vms.map(toVmData),
        totalCount: total,
        runningCount: counts.running,
        startingCount: counts.starting,
        pausingCount: counts.suspending,
        pausedCount: counts.suspended,
        stoppedCount: counts.stopped + counts.lost,
      }));
    },
  }),
  vmEndpoint("read", {
    method: "get",
    path: VM,
    summary: "Show a VM",
    answer: vmData,
    handle: async (edge, authority) => mapped(await withSlug(edge, await readVm(edge, authority)), toVmData),
  }),
  accountEndpoint({
    method: "patch",
    path: VM,
    summary: "Change a VM; metadata is merged, and an empty value removes its key",
    body: updateVmBody,
    answer: vmData,
    handle: async (edge, { accountId }, { path, body }) =>
      mapped(await withSlug(edge, await updateVm(edge, accountId, path.vmId, toUpdate(body))), toVmData),
  }),
  vmEndpoint("start", {
    method: "post",
    path: `${VM}/start`,
    summary: "Boot a stopped VM, or resume a paused one",
    body: z.strictObject({}),
    answer: vmData,
    handle: async (edge, authority) => mapped(await withSlug(edge, await startVm(edge, authority)), toVmData),
  }),
  accountEndpoint({
    method: "post",
    path: `${VM}/pause`,
    summary: "Pause a VM; its memory and disk stay",
    body: z.strictObject({}),
    answer: vmData,
    handle: async (edge, { accountId }, { path }) => {
      const id = await vmIdOf(edge, accountId, path.vmId);
      return id.ok ? mapped(await withSlug(edge, await actAsOwner(edge, accountId, id.value, "suspend")), toVmData) : id;
    },
  }),
  accountEndpoint({
    method: "delete",
    path: VM,
    summary: "Delete a VM and its disk",
    answer: z.void(),
    handle: async (edge, { accountId }, { path }) => {
      const id = await vmIdOf(edge, accountId, path.vmId);
      return id.ok ? mapped(await actAsOwner(edge, accountId, id.value, "remove"), () => undefined) : id;
    },
  }),
  accountEndpoint({
    method: "get",
    path: "/v5/firewall/rules",
    summary: "List the firewall rules that were made with a VM",
    query: pageQuery.extend({ vmId: z.string("is required: rules are listed by VM") }),
    answer: z.object({ rules: z.array(firewallRuleData), totalCount: count }),
    handle: async (edge, { accountId }, { query }) => {
      const firewall = await vmFirewall(edge, accountId, query.vmId);
      if (!firewall.ok) return firewall;
      const { vm, rules } = firewall.value;
      const { offset, limit } = pageOf(query, edge.settings);
      const page = rules.slice(offset, offset + limit);
      return success({ rules: page.map((rule) => toRuleData(vm, rule)), totalCount: rules.length });
    },
  }),
];

/** What create answers. */
async function toCreated(edge: Edge, vm: VmRecord, rules: readonly FirewallRule[]): Promise<Result<unknown>> {
  return mapped(await withSlug(edge, success(vm)), (made) => ({
    ...toVmData(made),
    firewallRules: rules.map((rule) => toRuleData(made, rule)),
    tlsRules: [],
  }));
}

/** The same for a VM that an earlier request made. */
export async function showCreated(edge: Edge, vm: VmRecord): Promise<Result<unknown>> {
  const rules = await ask(() => vmObject(edge.env, vm.id).firewall(vm.accountId));
  return toCreated(edge, vm, rules.ok ? rules.value : []);
}
