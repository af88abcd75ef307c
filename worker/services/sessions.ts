import type { VerdictQuestion } from "../../durable-objects/contract.ts";
import { type Result, success } from "../../protocol/failures.ts";
import { isVmId } from "../../protocol/ids.ts";
import { isLinuxUser } from "../../protocol/linux-user.ts";
import type { SessionCheckRequest } from "../../protocol/service-api.ts";
import type { Edge } from "../edge.ts";
import { CREDENTIAL_INVALID, VM_NOT_FOUND } from "../masks.ts";
import { accountObject, ask, identityObject, vmObject } from "../objects.ts";

/**
 * Whether a live SSH or terminal session may go on: the credential that began it still holds, still admits its Linux user, and the
 * VM still is. Answers the subject's epoch, read from its object now.
 */
export async function checkSession(edge: Edge, session: SessionCheckRequest): Promise<Result<{ epoch: number }>> {
  const { vmId, linuxUser, operation } = session;
  if (!isVmId(vmId) || !isLinuxUser(linuxUser)) return VM_NOT_FOUND;
  const holder = await recheck(edge, session, { vmId, operation, linuxUser });
  if (!holder.ok) return holder;
  const { accountId, epoch } = holder.value;
  const vm = await ask(() => vmObject(edge.env, vmId).read(accountId));
  return vm.ok ? success({ epoch }) : vm;
}

async function recheck(
  edge: Edge,
  { subject, credentialId }: SessionCheckRequest,
  question: VerdictQuestion,
): Promise<Result<{ accountId: string; epoch: number }>> {
  const [kind, objectName] = subject.split(":");
  if (objectName === undefined) return CREDENTIAL_INVALID;
  return kind === "account"
    ? ask(() => accountObject(edge.env, objectName).recheck(credentialId))
    : ask(() => identityObject(edge.env, objectName).recheck(credentialId, question));
}
