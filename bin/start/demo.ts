import { existsSync, readFileSync } from "node:fs";
import { z } from "zod";
import { ApiClient, ApiRefusal } from "../operator.ts";
import { type Home, writePrivateFile } from "./home.ts";

const demoFile = z.object({
  accountId: z.string(),
  apiKey: z.string(),
  vm: z.object({ id: z.string(), token: z.string() }).optional(),
});
type DemoFile = z.infer<typeof demoFile>;

/** The account of a local system, made at its first start and kept. */
export async function keepAccount(home: Home, operator: ApiClient): Promise<{ accountId: string; apiKey: string }> {
  const known = readDemo(home);
  if (known !== null) return known;
  const account = await operator.request<{ accountId: string; apiKey: string }>("POST", "/operator/v1/accounts", { name: "dev" });
  writeDemo(home, { accountId: account.accountId, apiKey: account.apiKey });
  return account;
}

/** The demo VM and a token that opens it: the kept ones if they still work, new ones otherwise. */
export async function keepDemoVm(home: Home, apiUrl: string): Promise<{ id: string; token: string }> {
  const known = readDemo(home);
  if (known === null) throw new Error("the account must be made before its demo VM");
  if (known.vm !== undefined && (await opensVm(apiUrl, known.vm))) return known.vm;
  const api = new ApiClient(apiUrl, known.apiKey);
  const vm = await api.request<{ id: string }>("POST", "/v1/vms", { name: "demo", users: [{ name: "dev", groups: ["sudo"] }] });
  const identity = await api.request<{ id: string }>("POST", "/identity/v1/identities");
  await api.request("POST", `/identity/v1/identities/${identity.id}/permissions/vm/${vm.id}`, {});
  const { token } = await api.request<{ token: string }>("POST", `/identity/v1/identities/${identity.id}/tokens`);
  writeDemo(home, { ...known, vm: { id: vm.id, token } });
  return { id: vm.id, token };
}

async function opensVm(apiUrl: string, vm: { id: string; token: string }): Promise<boolean> {
  try {
    await new ApiClient(apiUrl, vm.token).request("GET", `/v1/vms/${vm.id}`);
    return true;
  } catch (error) {
    // Only the API's own no counts: a new VM must not be made because something was down.
    if (error instanceof ApiRefusal && (error.status === 401 || error.status === 404)) return false;
    throw error;
  }
}

function readDemo(home: Home): DemoFile | null {
  if (!existsSync(home.demo)) return null;
  return demoFile.parse(JSON.parse(readFileSync(home.demo, "utf8")));
}

function writeDemo(home: Home, demo: DemoFile): void {
  writePrivateFile(home.demo, `${JSON.stringify(demo, null, 2)}\n`);
}
