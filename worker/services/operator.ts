import type { AccountApi, HostRow, Page, RegionApi, TokenRow } from "../../durable-objects/contract.ts";
import type { JoinTokenWish, ServiceRow } from "../../durable-objects/service-contract.ts";
import { readRegions } from "../../durable-objects/settings.ts";
import type { VmRecord } from "../../durable-objects/vm-contract.ts";
import { failure, type Result, success } from "../../protocol/failures.ts";
import { isObjectName, isVmId, newObjectName } from "../../protocol/ids.ts";
import type { Edge } from "../edge.ts";
import { accountObject, ask, regionNamed, signingKeysObject, tell, vmObject } from "../objects.ts";
import { forgetSigner } from "../tickets/signer.ts";
import { narrowing } from "./narrowing.ts";

const ACCOUNT_NOT_FOUND = failure("route-not-found", "There is no such account.");

/** Makes an account with its first API key, which this answer alone shows. */
export async function createAccount(
  edge: Edge,
  name: string,
): Promise<Result<{ accountId: string; keyId: string; apiKey: string }>> {
  const accountId = newObjectName(edge.randomBytes);
  return tell(() => accountObject(edge.env, accountId).create(name));
}

export async function createApiKey(
  edge: Edge,
  accountId: string,
  name: string | null,
): Promise<Result<{ keyId: string; apiKey: string }>> {
  return withAccount(edge, accountId, (account) => tell(() => account().createKey(name)));
}

export async function listApiKeys(
  edge: Edge,
  accountId: string,
  page: Page,
): Promise<Result<{ keys: readonly TokenRow[]; total: number }>> {
  return withAccount(edge, accountId, (account) => ask(() => account().listKeys(page)));
}

/** Narrowing. */
export async function revokeApiKey(edge: Edge, accountId: string, keyId: string): Promise<Result<null>> {
  return withAccount(edge, accountId, (account) => narrowing(edge, account, (object) => object.revokeKey(keyId)));
}

/** Narrowing: whatever the account owns answers nobody until it is resumed. */
export async function suspendAccount(edge: Edge, accountId: string): Promise<Result<null>> {
  return withAccount(edge, accountId, (account) => narrowing(edge, account, (object) => object.suspend()));
}

export async function resumeAccount(edge: Edge, accountId: string): Promise<Result<null>> {
  return withAccount(edge, accountId, (account) => tell(() => account().resume()));
}

/** Gives a VM to another account. Narrowing for the one that has it, whose grants on it hold no longer. */
export async function transferVm(edge: Edge, vmId: string, accountId: string): Promise<Result<VmRecord>> {
  if (!isVmId(vmId)) return failure("vm-id-invalid", "A VM id is 20 lower-case letters and digits.");
  return withAccount(edge, accountId, () =>
    narrowing(
      edge,
      () => vmObject(edge.env, vmId),
      (vm) => vm.transfer(accountId),
    ),
  );
}

/** Makes a key with which any number of hosts and forwarders enrol in a region; this answer alone shows it. */
export async function createServiceKey(
  edge: Edge,
  region: string,
  name: string | null,
): Promise<Result<{ keyId: string; serviceKey: string }>> {
  return withRegion(edge, region, (object) => tell(async () => (await object()).createServiceKey(region, name)));
}

export async function revokeServiceKey(edge: Edge, region: string, keyId: string): Promise<Result<null>> {
  return withRegion(edge, region, (object) => tell(async () => (await object()).revokeServiceKey(keyId)));
}

/** Makes a token with which one host or forwarder enrols; this answer alone shows it. */
export async function createJoinToken(
  edge: Edge,
  region: string,
  wish: JoinTokenWish,
): Promise<Result<{ tokenId: string; joinToken: string; expiresAt: number }>> {
  return withRegion(edge, region, (object) => tell(async () => (await object()).createJoinToken(region, wish)));
}

export async function revokeJoinToken(edge: Edge, region: string, tokenId: string): Promise<Result<null>> {
  return withRegion(edge, region, (object) => tell(async () => (await object()).revokeJoinToken(tokenId)));
}

export async function listServices(
  edge: Edge,
  region: string,
  page: Page,
): Promise<Result<{ services: readonly ServiceRow[]; total: number }>> {
  return withRegion(edge, region, (object) => ask(async () => (await object()).listServices(page)));
}

/** Cuts a host or forwarder off: its feed at once, and every request of it from now on. */
export async function revokeService(edge: Edge, region: string, serviceId: string): Promise<Result<null>> {
  return withRegion(edge, region, (object) => tell(async () => (await object()).revokeService(serviceId)));
}

export async function listHosts(edge: Edge, region: string): Promise<Result<readonly HostRow[]>> {
  return withRegion(edge, region, (object) => ask(async () => (await object()).listHosts()));
}

/** Has a host take no new VMs and wake none, or take them again. */
export async function drainHost(edge: Edge, region: string, hostId: string, draining: boolean): Promise<Result<null>> {
  return withRegion(edge, region, (object) => tell(async () => (await object()).drainHost(hostId, draining)));
}

/** Publishes a new ticket key, which signs once every verifier has had time to learn it. */
export async function rotateSigningKeys(edge: Edge): Promise<Result<{ kid: string; signsFrom: number }>> {
  return tell(async () => success(await signingKeysObject(edge.env).rotate()));
}

/** For a ticket key in wrong hands: withdraws every key, and so every ticket, at once. */
export async function voidSigningKeys(
  edge: Edge,
): Promise<Result<{ kid: string; voided: readonly string[]; untold: readonly string[] }>> {
  return tell(async () => {
    const answer = await signingKeysObject(edge.env).voidAll();
    // What is refused of a client's ticket is never told here, unlike what is refused of the edge's own.
    forgetSigner();
    return success(answer);
  });
}

/** An account's object refuses whoever asks for an account that does not exist; the operator is told so plainly. */
export async function withAccount<T>(
  edge: Edge,
  accountId: string,
  use: (account: () => AccountApi) => Promise<Result<T>>,
): Promise<Result<T>> {
  if (!isObjectName(accountId)) return ACCOUNT_NOT_FOUND;
  const result = await use(() => accountObject(edge.env, accountId));
  return !result.ok && result.failure.kind === "credential-invalid" ? ACCOUNT_NOT_FOUND : result;
}

async function withRegion<T>(
  edge: Edge,
  region: string,
  use: (object: () => Promise<RegionApi>) => Promise<Result<T>>,
): Promise<Result<T>> {
  if (!readRegions(edge.env.REGIONS).includes(region)) return failure("route-not-found", "There is no such region.");
  return use(() => regionNamed(edge.env, region));
}
