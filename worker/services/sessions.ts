import type { Verdict, VerdictQuestion } from "../../durable-objects/contract.ts";
import type { Placement } from "../../durable-objects/vm-contract.ts";
import { type Result, success } from "../../protocol/failures.ts";
import { isVmId } from "../../protocol/ids.ts";
import { isLinuxUser } from "../../protocol/linux-user.ts";
import { actsAsLinuxUser } from "../../protocol/operations.ts";
import type { SessionCheckAnswer, SessionCheckRequest } from "../../protocol/service-api.ts";
import type { ServicePrincipal } from "../auth/service.ts";
import type { Edge } from "../edge.ts";
import { CREDENTIAL_INVALID, VM_NOT_FOUND } from "../masks.ts";
import { accountObject, ask, identityObject, vmObject } from "../objects.ts";
import { holdsAt } from "./grant-epoch.ts";

/**
 * Whether a live SSH or terminal session may go on: the credential that began it still holds, still admits its Linux user, and the
 * VM still is where the asking service may speak of it. Answers the epochs of all that, read from the objects now.
 */
export async function checkSession(
  edge: Edge,
  asker: ServicePrincipal,
  session: SessionCheckRequest,
): Promise<Result<SessionCheckAnswer>> {
  const { vmId, linuxUser, operation } = session;
  if (!isVmId(vmId) || !isLinuxUser(linuxUser)) return VM_NOT_FOUND;
  const holder = await recheck(edge, session, { vmId, operation, linuxUser: actsAsLinuxUser(operation) ? linuxUser : null });
  if (!holder.ok) return holder;
  const { accountId, epoch } = holder.value;
  const [tenancy, vm] = await Promise.all([
    ask(() => accountObject(edge.env, accountId).tenancy()),
    ask(() => vmObject(edge.env, vmId).placement()),
  ]);
  if (!tenancy.ok) return tenancy;
  if (!vm.ok) return vm;
  if (vm.value.accountId !== accountId || !holdsAt(holder.value, vm.value)) return VM_NOT_FOUND;
  if (!mayAsk(asker, operation, vm.value)) return VM_NOT_FOUND;
  return success({ epoch, accountEpoch: tenancy.value.epoch, vmEpoch: vm.value.epoch });
}

/** A host asks about VMs that are placed on it, a forwarder about SSH to those of its region. */
function mayAsk({ kind, hostId, region }: ServicePrincipal, operation: SessionCheckRequest["operation"], vm: Placement): boolean {
  if (kind === "host") return vm.hostId === hostId;
  return operation === "ssh" && vm.region === region;
}

async function recheck(
  edge: Edge,
  { subject, credentialId }: SessionCheckRequest,
  question: VerdictQuestion,
): Promise<Result<Pick<Verdict, "accountId" | "epoch" | "grant">>> {
  const [kind, objectName] = subject.split(":");
  if (objectName === undefined) return CREDENTIAL_INVALID;
  if (kind !== "account") return ask(() => identityObject(edge.env, objectName).recheck(credentialId, question));
  const standing = await ask(() => accountObject(edge.env, objectName).recheck(credentialId));
  return standing.ok ? success({ ...standing.value, grant: null }) : standing;
}
