import { z } from "zod";
import type { FirewallEndpoint, FirewallRule, ListedVm } from "../../../durable-objects/vm-contract.ts";
import type { Edge } from "../../edge.ts";
import { newFirewallRule } from "../../services/firewall.ts";
import { HONOURED, NOT_OFFERED } from "../../services/honoured.ts";
import { isoTime } from "../translate.ts";

const name = z.string().min(1).max(256).optional();

const endpoint = z
  .strictObject({
    vmId: name,
    vpcId: name,
    tunnelId: name,
    cidr: name,
    public: z.literal(true).optional(),
    port: z.int().min(1).max(65535).optional(),
    protocol: z.enum(["tcp", "udp", "icmp"]).optional(),
  })
  .refine(({ port, protocol }) => port === undefined || protocol === "tcp" || protocol === "udp", {
    message: "needs protocol tcp or udp",
    path: ["port"],
  })
  .refine((end) => end.public === undefined || (end.vmId ?? end.vpcId ?? end.tunnelId) === undefined, {
    message: "cannot be combined with vmId, vpcId or tunnelId",
    path: ["public"],
  });

const rule = z
  .strictObject({
    action: z.literal("allow"),
    source: endpoint,
    destination: endpoint,
    description: z.string().max(1024).nullish(),
  })
  .refine(
    ({ source, destination }) => isVmItself(source) !== isVmItself(destination),
    "must leave one end, the new VM, without an identity",
  )
  .refine(opensInternet, 'is not offered here: the only rule is {"action":"allow","source":{},"destination":{"public":true}}');

/** The `firewall` of a create: no rule for no internet, or the rule that opens it. */
export const firewallBody = z.strictObject({
  rules: z
    .array(rule)
    .max(256)
    .refine(
      (rules) => rules.length > 0 || HONOURED.noInternet,
      `without a rule ${NOT_OFFERED}, so a VM always reaches the internet`,
    ),
});

export const firewallRuleData = z.object({
  id: z.string(),
  action: z.literal("allow"),
  source: z.record(z.string(), z.unknown()),
  destination: z.record(z.string(), z.unknown()),
  description: z.string().nullable(),
  dependencies: z.array(
    z.object({ kind: z.string(), id: z.string(), slug: z.string().nullable(), displayName: z.string().nullable() }),
  ),
  createdAt: z.string(),
  updatedAt: z.string(),
});

/** Rules as they are kept. */
export function newRules(edge: Edge, { rules }: z.output<typeof firewallBody>): FirewallRule[] {
  return rules.map(({ source, destination, description = null }) => newFirewallRule(edge, { source, destination, description }));
}

/** A rule as it is shown: the end that was left open names the VM, with which the rule goes. */
export function toRuleData(
  vm: Pick<ListedVm, "id" | "slug" | "name">,
  { id, source, destination, description, createdAt }: FirewallRule,
): z.output<typeof firewallRuleData> {
  return {
    id,
    action: "allow",
    source: closed(source, vm.id),
    destination: closed(destination, vm.id),
    description,
    dependencies: [{ kind: "vm", id: vm.id, slug: vm.slug, displayName: vm.name }],
    createdAt: isoTime(createdAt),
    updatedAt: isoTime(createdAt),
  };
}

function closed(end: FirewallEndpoint, vmId: string): Record<string, unknown> {
  return isVmItself(end) ? { vmId, ...end } : { ...end };
}

function isVmItself(end: FirewallEndpoint): boolean {
  return (end.vmId ?? end.vpcId ?? end.tunnelId ?? end.cidr ?? end.public) === undefined;
}

/** The one rule that hosts can follow: from the VM to every public address, by any protocol. */
function opensInternet({ source, destination }: Pick<FirewallRule, "source" | "destination">): boolean {
  const members = (end: FirewallEndpoint) => Object.entries(end).filter(([, value]) => value !== undefined);
  return members(source).length === 0 && members(destination).length === 1 && destination.public === true;
}
