import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { ApiClient } from "../bin/operator.ts";
import { choosePort } from "../bin/start/ports.ts";
import { LocalEdge } from "../test/system/local-edge.ts";
import { VerifyingHost } from "../test/system/verifying-host.ts";

/** An edge with a bare Worker beside it in one workerd, one host that verifies and answers at once, and an account with a VM. */
export interface EdgeWorld {
  readonly edge: LocalEdge;
  readonly host: VerifyingHost;
  /** Base URL of the bare Worker. */
  readonly bareUrl: string;
  readonly owner: ApiClient;
  readonly vmId: string;
  /** A new identity's access token that opens the VM, with the token's and the identity's ids. */
  newToken(): Promise<{ readonly token: string; readonly tokenId: string; readonly identityId: string }>;
}

/** Runs `use` with a world of its own. */
export async function withEdge<T>(vars: Readonly<Record<string, string>>, use: (world: EdgeWorld) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "postern-bench-edge-"));
  const barePort = await choosePort("127.0.0.1", 0, "PORT");
  await build({
    entryPoints: [fileURLToPath(new URL("bare-worker.ts", import.meta.url))],
    outfile: join(folder, "bare.js"),
    format: "esm",
    bundle: true,
  });
  const edge = await LocalEdge.start({ folder, vars, configure: (config) => withBareWorker(config, barePort) });
  const { serviceKey } = await edge.operator.request<{ serviceKey: string }>("POST", "/operator/v1/regions/local/service-keys", {});
  const host = await VerifyingHost.start({ folder: join(folder, "host"), edgeUrl: edge.url, serviceKey });
  try {
    const { apiKey } = await edge.operator.request<{ apiKey: string }>("POST", "/operator/v1/accounts", { name: "bench" });
    const owner = new ApiClient(edge.url, apiKey);
    const { id: vmId } = await owner.request<{ id: string }>("POST", "/v1/vms", {});
    return await use({
      edge,
      host,
      bareUrl: `http://127.0.0.1:${barePort}`,
      owner,
      vmId,
      newToken: async () => {
        const { id: identityId } = await owner.request<{ id: string }>("POST", "/identity/v1/identities");
        await owner.request("POST", `/identity/v1/identities/${identityId}/permissions/vm/${vmId}`, {});
        const made = await owner.request<{ id: string; token: string }>("POST", `/identity/v1/identities/${identityId}/tokens`);
        return { token: made.token, tokenId: made.id, identityId };
      },
    });
  } finally {
    await host.stop();
    await edge.end("SIGTERM");
    rmSync(folder, { recursive: true, force: true });
  }
}

function withBareWorker(config: string, port: number): string {
  return config
    .replace("  services = [\n", '  services = [\n    (name = "bare", worker = .bare),\n')
    .replace("  sockets = [", `  sockets = [(name = "bare", address = "127.0.0.1:${port}", http = (), service = "bare"), `)
    .concat(`
const bare :Workerd.Worker = (
  modules = [(name = "bare.js", esModule = embed "bare.js")],
  compatibilityDate = "2026-10-01",
  globalOutbound = "hosts",
);
`);
}
