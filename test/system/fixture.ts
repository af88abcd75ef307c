import { inject, onTestFinished } from "vitest";
import { ApiClient } from "../../bin/operator.ts";
import type { SystemAccess } from "./running-system.ts";
import type { Package, Sdk, SdkVm } from "./sdk.ts";
import type {} from "./started-system.ts";

/** The system that runs for all tests. */
export const system: SystemAccess = inject("system");

export interface TestAccount {
  readonly accountId: string;
  readonly apiKey: string;
}

/** A new account, so that no two tests can see each other's things. */
export function newAccount(at: SystemAccess = system): Promise<TestAccount> {
  return new ApiClient(at.apiUrl, at.operatorKey).request("POST", "/operator/v1/accounts", { name: "test" });
}

/** A client that holds an API key. */
export function keyClient(of: Package, apiKey: string, at: SystemAccess = system): Sdk {
  return new of.Freestyle({ baseUrl: at.apiUrl, apiKey });
}

/** A client that holds an access token. */
export function tokenClient(of: Package, accessToken: string, at: SystemAccess = system): Sdk {
  return new of.Freestyle({ baseUrl: at.apiUrl, accessToken });
}

type CreateOptions = Parameters<Sdk["vms"]["create"]>[0];

export interface TestVm {
  readonly vmId: string;
  readonly vm: SdkVm;
}

/** A VM that is deleted when the test is over. */
export async function testVm(client: Sdk, options: NonNullable<CreateOptions> = {}): Promise<TestVm> {
  const { vm, vmId } = await client.vms.create(options);
  onTestFinished(() => deleteVm(client, vmId));
  return { vm, vmId };
}

/** Deletes a VM; one that a test deleted itself is no error. */
export async function deleteVm(client: Sdk, vmId: string): Promise<void> {
  try {
    await client.vms.delete({ vmId });
  } catch (error) {
    if ((error as { body?: { code?: string } }).body?.code !== "VM_NOT_FOUND") throw error;
  }
}

export interface TestIdentity {
  readonly identityId: string;
  readonly identity: Awaited<ReturnType<Sdk["identities"]["create"]>>["identity"];
  readonly tokenId: string;
  readonly token: string;
}

/** An identity with one token, and a grant on each given VM. It goes with its account, which no other test knows. */
export async function testIdentity(
  client: Sdk,
  grants: readonly { vmId: string; allowedUsers?: string[] | null }[] = [],
): Promise<TestIdentity> {
  const { identity, identityId } = await client.identities.create();
  for (const grant of grants) await identity.permissions.vms.grant(grant);
  const { token, tokenId } = await identity.tokens.create();
  return { identity, identityId, token, tokenId };
}
