import { success } from "../../protocol/failures.ts";
import type { MachineStatesAnswer, MachineStatesReport } from "../../protocol/service-api.ts";
import type { ServicePrincipal } from "../auth/service.ts";
import type { Edge } from "../edge.ts";
import { logEvent } from "../log.ts";
import { ask, vmObject } from "../objects.ts";

type State = MachineStatesReport["states"][number];

/** Passes what a host saw of its machines to their VMs' objects, each of which says itself whether that host may speak of it. */
export async function passOnStates(
  edge: Edge,
  { hostId }: ServicePrincipal,
  { states }: MachineStatesReport,
): Promise<MachineStatesAnswer> {
  if (hostId === null) return { untold: [] };
  const told = await Promise.all(states.map((state) => passOn(edge, hostId, state)));
  return { untold: states.filter((_, index) => told[index] === false).map(({ vm }) => vm) };
}

async function passOn(edge: Edge, hostId: string, { vm, state, at }: State): Promise<boolean> {
  try {
    const told = await ask(async () => {
      await vmObject(edge.env, vm).observe(hostId, state, at);
      return success(null);
    });
    return told.ok;
  } catch (error) {
    // One VM's fault must not keep its host from telling of the others.
    logEvent("machine-state-not-noted", { traceId: edge.traceId, vm, error: String(error) });
    return false;
  }
}
