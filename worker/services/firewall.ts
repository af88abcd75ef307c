import type { FirewallRule, VmSpec } from "../../durable-objects/vm-contract.ts";
import { newRowId } from "../../protocol/ids.ts";
import type { Edge } from "../edge.ts";

/** A rule as it is kept with its VM. */
export function newFirewallRule(edge: Edge, rule: Pick<FirewallRule, "source" | "destination" | "description">): FirewallRule {
  return { ...rule, id: newRowId(edge.randomBytes), createdAt: edge.clock() };
}

/** The rule that a VM has when its client cannot ask for any: it reaches the internet. */
export function internetRule(edge: Edge): FirewallRule {
  return newFirewallRule(edge, { source: {}, destination: { public: true }, description: null });
}

/** What a new VM is asked to be, without what was made up here: the same for the same request. */
export function wishOf(spec: VmSpec): object {
  const firewall = spec.firewall.map(({ source, destination, description }) => ({ source, destination, description }));
  return { ...spec, firewall };
}
