import type { VmRecord } from "../../durable-objects/vm-contract.ts";
import { isResting } from "../../durable-objects/vm-lifecycle.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { isVmId } from "../../protocol/ids.ts";
import type { Edge } from "../edge.ts";
import { ask, vmObject } from "../objects.ts";

/** How a VM stopped running. `state` is `deleted` when it went altogether. */
export interface VmExit {
  readonly id: string;
  readonly state: VmRecord["state"];
}

/**
 * Waits until a VM neither runs nor starts, however long that takes: an answer in JSON whose body begins at once and is kept
 * alive with spaces, which JSON allows before its value, so that no client gives up on it. It ends when the caller leaves.
 */
export async function awaitExit(
  edge: Edge,
  accountId: string,
  vmId: string,
  render: (exit: VmExit) => unknown,
): Promise<Result<Response>> {
  if (!isVmId(vmId)) return failure("vm-id-invalid", "A VM id is 20 lower-case letters and digits.");
  const first = await ask(() => vmObject(edge.env, vmId).read(accountId));
  if (!first.ok) return first;
  const body = waitingBody(() => exitOf(edge, accountId, vmId), render);
  return success(new Response(body, { headers: { "content-type": "application/json" } }));
}

/** How the VM ended, or null while it has not, after some seconds. */
async function exitOf(edge: Edge, accountId: string, vmId: string): Promise<VmExit | null> {
  const vm = await ask(() => vmObject(edge.env, vmId).untilAtRest(accountId));
  if (vm.ok) return isResting(vm.value.state) ? { id: vmId, state: vm.value.state } : null;
  return vm.failure.kind === "vm-not-found" ? { id: vmId, state: "deleted" } : pause(edge);
}

function waitingBody(next: () => Promise<VmExit | null>, render: (exit: VmExit) => unknown): ReadableStream {
  const encoder = new TextEncoder();
  const keepAlive = encoder.encode(" ");
  return new ReadableStream({
    start: (controller) => controller.enqueue(keepAlive),
    pull: async (controller) => {
      const exit = await next();
      if (exit === null) return controller.enqueue(keepAlive);
      controller.enqueue(encoder.encode(JSON.stringify(render(exit))));
      controller.close();
    },
  });
}

/** The VM's object is away for a moment: it is asked again, not at once. */
async function pause(edge: Edge): Promise<null> {
  await new Promise((resolve) => setTimeout(resolve, edge.settings.RETRY_AFTER_S * 1000));
  return null;
}
