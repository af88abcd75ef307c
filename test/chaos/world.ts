import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../../bin/operator.ts";
import { EdgeProxy } from "../system/edge-proxy.ts";
import { LocalEdge } from "../system/local-edge.ts";
import { VerifyingHost, type VerifyingHostOptions } from "../system/verifying-host.ts";

/** Who may do something, and what takes it away. */
export interface Holder {
  readonly token: string;
  readonly tokenId: string;
  readonly identityId: string;
}

/** An edge of two regions with a host in each; the first one's feed goes through a proxy. */
export class ChaosWorld {
  readonly edge: LocalEdge;
  readonly proxy: EdgeProxy;
  readonly owner: ApiClient;
  readonly vmId: string;
  /** The VM's host, in region `eu`, and one that has none, in `us`. */
  host: VerifyingHost;
  readonly other: VerifyingHost;
  readonly #folder: string;
  readonly #keys: { readonly eu: string; readonly us: string };
  #started: VerifyingHost[];

  private constructor(
    parts: Pick<ChaosWorld, "edge" | "proxy" | "owner" | "vmId" | "host" | "other">,
    folder: string,
    keys: { eu: string; us: string },
  ) {
    this.edge = parts.edge;
    this.proxy = parts.proxy;
    this.owner = parts.owner;
    this.vmId = parts.vmId;
    this.host = parts.host;
    this.other = parts.other;
    this.#folder = folder;
    this.#keys = keys;
    this.#started = [parts.host, parts.other];
  }

  static async open(): Promise<ChaosWorld> {
    const folder = mkdtempSync(join(tmpdir(), "postern-chaos-"));
    const edge = await LocalEdge.start({ folder: join(folder, "edge"), vars: { REGIONS: "eu,us" } });
    try {
      return await ChaosWorld.#around(edge, folder);
    } catch (error) {
      await edge.end("SIGKILL");
      throw error;
    }
  }

  static async #around(edge: LocalEdge, folder: string): Promise<ChaosWorld> {
    const proxy = await EdgeProxy.start(edge.url);
    const keys = { eu: await serviceKey(edge, "eu"), us: await serviceKey(edge, "us") };
    const host = await VerifyingHost.start({
      folder: join(folder, "eu"),
      edgeUrl: edge.url,
      feedUrl: proxy.url,
      serviceKey: keys.eu,
    });
    const other = await VerifyingHost.start({ folder: join(folder, "us"), edgeUrl: edge.url, serviceKey: keys.us });
    const { apiKey } = await edge.operator.request<{ apiKey: string }>("POST", "/operator/v1/accounts", { name: "chaos" });
    const owner = new ApiClient(edge.url, apiKey);
    const { id: vmId } = await owner.request<{ id: string }>("POST", "/v1/vms", {});
    return new ChaosWorld({ edge, proxy, owner, vmId, host, other }, folder, keys);
  }

  /** `expiresInSeconds`: the token's own end; absent: none. */
  async newHolder(expiresInSeconds?: number): Promise<Holder> {
    const { id: identityId } = await this.owner.request<{ id: string }>("POST", "/identity/v1/identities");
    await this.owner.request("POST", `/identity/v1/identities/${identityId}/permissions/vm/${this.vmId}`, {});
    const made = await this.owner.request<{ id: string; token: string }>(
      "POST",
      `/identity/v1/identities/${identityId}/tokens`,
      expiresInSeconds === undefined ? undefined : { expiresInSeconds },
    );
    return { token: made.token, tokenId: made.id, identityId };
  }

  revoke({ identityId, tokenId }: Holder): Promise<unknown> {
    return this.owner.request("DELETE", `/identity/v1/identities/${identityId}/tokens/${tokenId}`);
  }

  /** The status of an exec; 0 when nobody answered. */
  async exec({ token }: Holder): Promise<number> {
    try {
      const response = await fetch(`${this.edge.url}/v1/vms/${this.vmId}/exec-await`, {
        method: "POST",
        headers: { "x-freestyle-identity-access-token": token, "content-type": "application/json" },
        body: JSON.stringify({ command: "true", terminal: null, timeoutMs: null }),
      });
      await response.arrayBuffer();
      return response.status;
    } catch {
      return 0;
    }
  }

  /** Another host, or one of a region that comes back. */
  async startHost(region: "eu" | "us", name: string, more: Partial<VerifyingHostOptions> = {}): Promise<VerifyingHost> {
    const started = await VerifyingHost.start({
      folder: join(this.#folder, name),
      edgeUrl: this.edge.url,
      serviceKey: this.#keys[region],
      ...more,
    });
    this.#started.push(started);
    return started;
  }

  async stopHost(host: VerifyingHost): Promise<void> {
    this.#started = this.#started.filter((one) => one !== host);
    await host.stop();
  }

  async close(): Promise<void> {
    for (const host of this.#started) await host.stop();
    await this.proxy.stop();
    await this.edge.end("SIGTERM");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function serviceKey(edge: LocalEdge, region: string): Promise<string> {
  const made = await edge.operator.request<{ serviceKey: string }>("POST", `/operator/v1/regions/${region}/service-keys`, {});
  return made.serviceKey;
}
