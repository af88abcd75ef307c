import type { FirewallRule } from "../../durable-objects/contract.ts";
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
