import type { Placement, Verdict, VerdictQuestion } from "../../durable-objects/contract.ts";
import { type Failure, failure, type Result, success } from "../../protocol/failures.ts";
import { isVmId } from "../../protocol/ids.ts";
import { DEFAULT_LINUX_USER, type IMAGE_USER, isLinuxUser } from "../../protocol/linux-user.ts";
import { actsAsLinuxUser, isOpenToAccessTokens, type Operation } from "../../protocol/operations.ts";
import { accountSubject } from "../../protocol/subjects.ts";
import type { Credential } from "../../protocol/tokens.ts";
import { resolveAccount, resolvePrincipal } from "../auth/resolve.ts";
import type { Edge } from "../edge.ts";
import { CREDENTIAL_INVALID, VM_NOT_FOUND } from "../masks.ts";
import { ask, identityObject, vmObject } from "../objects.ts";

/** What a caller wants to do, before anything about it is checked. */
export interface VmRequest {
  readonly vmId: string;
  readonly operation: Operation;
  /** As the caller named it; `null`: nobody was named. */
  readonly linuxUser: string | null;
  /** Who is meant when nobody was named: root, unless this says that the guest decides. */
  readonly unnamedUser?: typeof IMAGE_USER;
}

/**
 * A verdict, with the way to read it again after a verifier refused it as stale. For an API key the verdict says who
 * calls; that the VM is the account's is confirmed by the VM's object, which every use asks next with `accountId`.
 */
export interface Authority {
  readonly verdict: Verdict;
  reread(): Promise<Result<Verdict>>;
  /** Told whom the guest meant by `IMAGE_USER`, once the host has said so. */
  readonly actedAs?: (linuxUser: string) => void;
}

/**
 * Decides whether a credential may do this. A malformed request of a live credential is `bad-request` or
 * `vm-id-invalid`; of a dead one `credential-invalid`, so that strangers learn nothing. To an access token an id that cannot
 * be a VM's is simply not there. Wakes nothing.
 */
export async function authorise(edge: Edge, credential: Credential, request: VmRequest): Promise<Result<Authority>> {
  const question = readQuestion(request);
  if (!question.ok) {
    const principal = await resolvePrincipal(edge, credential);
    if (!principal.ok) return principal;
    const isMasked = principal.value.kind === "identity" && question.failure.kind === "vm-id-invalid";
    return isMasked ? VM_NOT_FOUND : question;
  }
  const read = () => readVerdict(edge, credential, question.value);
  const verdict = await read();
  return verdict.ok ? success({ verdict: verdict.value, reread: read }) : verdict;
}

/** Where the VM of a verdict is. Missing, deleted and other accounts' VMs are `vm-not-found` alike. */
export async function locate(edge: Edge, verdict: Verdict): Promise<Result<Placement>> {
  const placement = await ask(() => vmObject(edge.env, verdict.vmId).placement());
  if (placement.ok && placement.value.accountId !== verdict.accountId) return VM_NOT_FOUND;
  return placement;
}

function readQuestion({ vmId, operation, linuxUser, unnamedUser }: VmRequest): Result<VerdictQuestion> {
  if (!isVmId(vmId)) return failure("vm-id-invalid", "A VM id is 20 lower-case letters and digits.");
  if (!actsAsLinuxUser(operation)) return success({ vmId, operation, linuxUser: null });
  if (linuxUser !== null && !isLinuxUser(linuxUser)) return { ok: false, failure: LINUX_USER_INVALID };
  return success({ vmId, operation, linuxUser: linuxUser ?? unnamedUser ?? DEFAULT_LINUX_USER });
}

const LINUX_USER_INVALID: Failure = {
  kind: "bad-request",
  message: "A Linux user name is a lower-case letter or underscore, then at most 31 of a-z, 0-9, underscore and hyphen.",
};

async function readVerdict(edge: Edge, credential: Credential, question: VerdictQuestion): Promise<Result<Verdict>> {
  switch (credential.kind) {
    case "access-token":
      return readTokenVerdict(edge, credential, question);
    case "api-key":
      return readKeyVerdict(edge, credential, question);
    case "service-key":
      return CREDENTIAL_INVALID;
  }
}

async function readTokenVerdict(edge: Edge, credential: Credential, question: VerdictQuestion): Promise<Result<Verdict>> {
  if (!isOpenToAccessTokens(question.operation)) {
    const refused = await resolveAccount(edge, credential);
    return refused.ok ? CREDENTIAL_INVALID : refused;
  }
  return await ask(() => identityObject(edge.env, credential.routing).verdict(credential.secretHash, question));
}

async function readKeyVerdict(edge: Edge, credential: Credential, question: VerdictQuestion): Promise<Result<Verdict>> {
  const account = await resolveAccount(edge, credential);
  if (!account.ok) return account;
  const { accountId, keyId, epoch, readAt } = account.value;
  return success({
    subject: accountSubject(accountId),
    accountId,
    credentialId: keyId,
    ...question,
    epoch,
    readAt,
    expiresAt: null,
  });
}
