import type { VmRecord } from "../../durable-objects/vm-contract.ts";
import type { Result } from "../../protocol/failures.ts";
import type { MachineResources } from "../../protocol/host-api.ts";
import type { Edge } from "../edge.ts";
import { tell, vmObject } from "../objects.ts";
import { vmIdOf } from "./vms-slugs.ts";

/** Gives a VM that an id or a slug names other sizes, at once if it runs. `growOnly`: refuses what is smaller than it has. */
export async function resizeVm(
  edge: Edge,
  accountId: string,
  named: string,
  wish: MachineResources,
  growOnly: boolean,
): Promise<Result<VmRecord>> {
  const id = await vmIdOf(edge, accountId, named);
  return id.ok ? await tell(() => vmObject(edge.env, id.value).resize(accountId, wish, growOnly, edge.traceId)) : id;
}
