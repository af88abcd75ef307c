import { ApiClient } from "../bin/operator.ts";
import type { SystemAccess } from "../test/system/running-system.ts";

/** A VM of a new account and an access token that opens it. */
export interface BenchVm {
  readonly vmId: string;
  readonly token: string;
  /** The account's own client. */
  readonly owner: ApiClient;
}

/** Runs `use` with a VM of its own, which is deleted after. */
export async function withVm<T>(system: SystemAccess, use: (vm: BenchVm) => Promise<T>): Promise<T> {
  const owner = new ApiClient(system.apiUrl, await ownApiKey(system));
  const { id: vmId } = await owner.request<{ id: string }>("POST", "/v1/vms", {});
  try {
    const identity = await owner.request<{ id: string }>("POST", "/identity/v1/identities");
    await owner.request("POST", `/identity/v1/identities/${identity.id}/permissions/vm/${vmId}`, {});
    const { token } = await owner.request<{ token: string }>("POST", `/identity/v1/identities/${identity.id}/tokens`);
    return await use({ vmId, token, owner });
  } finally {
    await owner.request("DELETE", `/v1/vms/${vmId}`);
  }
}

/** An access token of a new identity of a new account, to which nothing is granted. */
export async function ownToken(system: SystemAccess): Promise<string> {
  const owner = new ApiClient(system.apiUrl, await ownApiKey(system));
  const { id } = await owner.request<{ id: string }>("POST", "/identity/v1/identities");
  return (await owner.request<{ token: string }>("POST", `/identity/v1/identities/${id}/tokens`)).token;
}

/** The API key of a new account. */
export async function ownApiKey(system: SystemAccess): Promise<string> {
  const operator = new ApiClient(system.apiUrl, system.operatorKey);
  return (await operator.request<{ apiKey: string }>("POST", "/operator/v1/accounts", { name: "bench" })).apiKey;
}
