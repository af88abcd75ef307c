import type { Verdict, VerdictQuestion } from "../../durable-objects/contract.ts";
import type { Placement } from "../../durable-objects/vm-contract.ts";
import { type Failure, failure, type Result, success } from "../../protocol/failures.ts";
import { isVmId } from "../../protocol/ids.ts";
import { DEFAULT_LINUX_USER, type IMAGE_USER, isLinuxUser } from "../../protocol/linux-user.ts";
import { actsAsLinuxUser, isOpenToAccessTokens, type Operation } from "../../protocol/operations.ts";
import type { Credential } from "../../protocol/tokens.ts";
import { resolveAccount, resolvePrincipal } from "../auth/resolve.ts";
import type { Edge } from "../edge.ts";
import { CREDENTIAL_INVALID, VM_NOT_FOUND } from "../masks.ts";
import { accountObject, ask, identityObject, vmObject } from "../objects.ts";
import { holdsAt, isPlaceFor } from "./grant-epoch.ts";
import { keyStanding, keyVerdict, tokenVerdict } from "./known.ts";

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
 * A verdict that may come from a cache, good for what is forwarded: a verifier stands behind it. For an API key it says who
 * calls; that the VM is the account's is confirmed by the VM's placement.
 */
export interface Authority {
  readonly verdict: Verdict;
  /** Reads it again from its object, after a verifier refused it as stale. */
  reread(): Promise<Result<Verdict>>;
  /** Told whom the guest meant by `IMAGE_USER`, once the host has said so. */
  readonly actedAs?: (linuxUser: string) => void;
}

/** A verdict that was read from its object for this request: what the edge answers itself needs one. */
export interface FreshAuthority extends Authority {
  readonly isFresh: true;
}

/**
 * Decides whether a credential may do this, by asking its object. A malformed request of a live credential is `bad-request`
 * or `vm-id-invalid`; of a dead one `credential-invalid`, so that strangers learn nothing. To an access token an id that
 * cannot be a VM's is simply not there. Wakes nothing.
 */
export async function authorise(edge: Edge, credential: Credential, request: VmRequest): Promise<Result<FreshAuthority>> {
  const question = parseQuestion(request);
  if (!question.ok) return refuseQuestion(edge, credential, question);
  const read = () => readVerdict(edge, credential, question.value);
  const verdict = await read();
  return verdict.ok ? success({ verdict: verdict.value, reread: read, isFresh: true }) : verdict;
}

/** The same for what is forwarded, from the nearest cache that may say it. */
export async function authoriseForward(edge: Edge, credential: Credential, request: VmRequest): Promise<Result<Authority>> {
  const question = parseQuestion(request);
  if (!question.ok) return refuseQuestion(edge, credential, question);
  switch (credential.kind) {
    case "access-token":
      return authoriseToken(edge, credential, question.value);
    case "api-key":
      return authoriseKey(edge, credential, question.value);
    case "service-key":
      return CREDENTIAL_INVALID;
  }
}

async function authoriseToken(edge: Edge, credential: Credential, question: VerdictQuestion): Promise<Result<Authority>> {
  if (!isOpenToAccessTokens(question.operation)) return refuseToken(edge, credential);
  const verdict = await tokenVerdict(edge, credential, question, null);
  if (!verdict.ok) return verdict;
  return success({ verdict: verdict.value, reread: () => tokenVerdict(edge, credential, question, verdict.value) });
}

async function authoriseKey(edge: Edge, credential: Credential, question: VerdictQuestion): Promise<Result<Authority>> {
  const standing = await keyStanding(edge, credential, null);
  if (!standing.ok) return standing;
  return success({
    verdict: keyVerdict(standing.value, question),
    reread: async () => {
      const again = await keyStanding(edge, credential, standing.value);
      return again.ok ? success(keyVerdict(again.value, question)) : again;
    },
  });
}

/** Where the VM of a verdict is, read now. Missing, deleted and other accounts' VMs are `vm-not-found` alike. */
export async function locate(edge: Edge, verdict: Verdict): Promise<Result<Placement>> {
  return ofAccount(verdict, await ask(() => vmObject(edge.env, verdict.vmId).placement()));
}

/** Refuses a place whose VM is not the verdict's account's, or was not all the time since it was granted. */
export function ofAccount(verdict: Verdict, placement: Result<Placement>): Result<Placement> {
  return placement.ok && !isPlaceFor(verdict, placement.value) ? VM_NOT_FOUND : placement;
}

async function refuseQuestion(
  edge: Edge,
  credential: Credential,
  refused: { readonly ok: false; readonly failure: Failure },
): Promise<Result<never>> {
  const principal = await resolvePrincipal(edge, credential);
  if (!principal.ok) return principal;
  const isMasked = principal.value.kind === "identity" && refused.failure.kind === "vm-id-invalid";
  return isMasked ? VM_NOT_FOUND : refused;
}

function parseQuestion({ vmId, operation, linuxUser, unnamedUser }: VmRequest): Result<VerdictQuestion> {
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
  if (!isOpenToAccessTokens(question.operation)) return refuseToken(edge, credential);
  const verdict = await ask(() => identityObject(edge.env, credential.routing).verdict(credential.secretHash, question));
  if (!verdict.ok) return verdict;
  const { accountId, vmId } = verdict.value;
  const [tenancy, epochs] = await Promise.all([
    ask(() => accountObject(edge.env, accountId).tenancy()),
    ask(async () => success(await vmObject(edge.env, vmId).epochs())),
  ]);
  if (!tenancy.ok) return tenancy;
  if (!epochs.ok) return epochs;
  return holdsAt(verdict.value, epochs.value) ? verdict : VM_NOT_FOUND;
}

async function readKeyVerdict(edge: Edge, credential: Credential, question: VerdictQuestion): Promise<Result<Verdict>> {
  const standing = await ask(() => accountObject(edge.env, credential.routing).checkKey(credential.secretHash));
  return standing.ok ? success(keyVerdict(standing.value, question)) : standing;
}

/** To a token, for what tokens never may: `forbidden` while it lives. */
async function refuseToken(edge: Edge, credential: Credential): Promise<Result<never>> {
  const refused = await resolveAccount(edge, credential);
  return refused.ok ? CREDENTIAL_INVALID : refused;
}
