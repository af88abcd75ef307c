import type { VmRecord, VmState } from "../../durable-objects/vm-contract.ts";
import { PLAIN_VM } from "../../durable-objects/vm-spec.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { isVmId } from "../../protocol/ids.ts";
import type { Edge } from "../edge.ts";
import { ask, tell, vmObject } from "../objects.ts";
import { listHosts, withAccount } from "./operator.ts";

/** A machine that a host's operator has named there, to become a VM of an account. */
export interface Registration {
  readonly vmId: string;
  readonly region: string;
  readonly hostId: string;
  readonly name: string | null;
}

/** Makes an existing machine a VM of the account. It may be down: whoever first enters it wakes it. */
export async function registerVm(
  edge: Edge,
  accountId: string,
  { vmId, region, hostId, name }: Registration,
): Promise<Result<{ vmId: string; state: VmState }>> {
  // Whatever fails once the VM's object has begun uses the id up, so what can be known before is looked at before.
  const account = await withAccount(edge, accountId, (object) => ask(() => object().epoch()));
  if (!account.ok) return account;
  const hosts = await listHosts(edge, region);
  if (!hosts.ok) return hosts;
  const host = hosts.value.find((one) => one.id === hostId);
  if (host === undefined) return failure("route-not-found", "There is no such host in this region.");
  if (host.driver !== "static")
    return failure("unsupported", `This host makes its machines (driver ${host.driver}): none is there.`);
  if (!host.connected) return failure("host-unavailable", "The host is not connected at the moment. Try again shortly.");
  const spec = { ...PLAIN_VM, name, registeredOn: { region, hostId } };
  const made = await tell(() => vmObject(edge.env, vmId).create(accountId, vmId, spec, edge.traceId));
  return made.ok ? success({ vmId: made.value.id, state: made.value.state }) : made;
}

/** Takes an existing machine away from its account: no token opens it any more. The machine goes on. */
export async function unregisterVm(edge: Edge, accountId: string, vmId: string): Promise<Result<null>> {
  if (!isVmId(vmId)) return failure("vm-id-invalid", "A VM id is 20 lower-case letters and digits.");
  const gone: Result<VmRecord> = await tell(() => vmObject(edge.env, vmId).unregister(accountId, edge.traceId));
  return gone.ok ? success(null) : gone;
}
