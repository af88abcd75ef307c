import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../../bin/operator.ts";
import { removeLeftovers } from "../../host/drivers/leftovers.ts";
import type { BackgroundCommand } from "../system/command.ts";
import { expectNothingLeft } from "../system/leftovers.ts";
import { LocalEdge } from "../system/local-edge.ts";
import { freePort } from "../system/ports.ts";
import { ServicePart } from "../system/service-part.ts";
import { SshClient } from "../system/ssh-client.ts";

export type RegionName = "eu" | "us";

/** A region: what runs there, and an SSH client that knows its forwarder. */
export interface RegionParts {
  readonly name: RegionName;
  readonly hosts: readonly ServicePart[];
  readonly forwarder: ServicePart;
  readonly ssh: SshClient;
}

/** Somebody who may use VMs, and what takes that away. */
export interface Holder {
  readonly token: string;
  readonly tokenId: string;
  readonly identityId: string;
}

export interface OwnerAccount {
  readonly accountId: string;
  readonly apiKey: string;
  readonly api: ApiClient;
}

const HOSTS: Readonly<Record<RegionName, readonly Readonly<Record<string, string>>[]>> = {
  eu: [{}, {}],
  // Full with its first VM.
  us: [{ POSTERN_HOST_CAPACITY: "1" }],
};

/**
 * A whole deployment on one machine: the edge under plain workerd, and two regions with host agents that run real guests and a
 * forwarder each, every part a process of its own.
 */
export class RegionalSystem {
  readonly edge: LocalEdge;
  readonly regions: Readonly<Record<RegionName, RegionParts>>;
  readonly #folder: string;

  private constructor(edge: LocalEdge, regions: Readonly<Record<RegionName, RegionParts>>, folder: string) {
    this.edge = edge;
    this.regions = regions;
    this.#folder = folder;
  }

  static async start(): Promise<RegionalSystem> {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), "postern-regions-")));
    const edge = await LocalEdge.start({ folder: join(folder, "edge"), vars: { REGIONS: "eu,us" } });
    const [eu, us] = await Promise.all([startRegion(edge, folder, "eu"), startRegion(edge, folder, "us")]);
    return new RegionalSystem(edge, { eu, us }, folder);
  }

  get all(): readonly RegionParts[] {
    return [this.regions.eu, this.regions.us];
  }

  /** Ends every part, guests included, and sees to it that nothing of them is left on the machine. */
  async stop(): Promise<void> {
    await Promise.all(this.all.map(({ forwarder }) => forwarder.end("SIGTERM")));
    const hosts = this.all.flatMap((region) => region.hosts);
    await Promise.all(
      hosts.map(async (host) => {
        await host.end("SIGTERM");
        await removeLeftovers(join(host.home, "host"));
      }),
    );
    await this.edge.end("SIGTERM");
    for (const { ssh } of this.all) ssh.close();
    for (const { home } of hosts) await expectNothingLeft(home);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async newAccount(): Promise<OwnerAccount> {
    const made = await this.edge.operator.request<{ accountId: string; apiKey: string }>("POST", "/operator/v1/accounts", {
      name: "regions",
    });
    return { ...made, api: new ApiClient(this.edge.url, made.apiKey) };
  }

  /** An exec by a token as root: its status, body, and how long the answer took, in milliseconds. */
  async exec(vmId: string, token: string): Promise<{ status: number; body: Record<string, unknown>; ms: number }> {
    const before = performance.now();
    const response = await fetch(`${this.edge.url}/v5/vms/${vmId}/exec-await`, {
      method: "POST",
      headers: { "x-freestyle-identity-access-token": token, "content-type": "application/json" },
      body: JSON.stringify({ command: "hostname", linuxUser: "root" }),
    });
    const body = (await response.json()) as Record<string, unknown>;
    return { status: response.status, body, ms: performance.now() - before };
  }

  /** What the operator sees of a region's hosts. */
  async hostsOf(region: RegionName): Promise<readonly { id: string; url: string; vmCount: number; down: boolean }[]> {
    const path = `/operator/v1/regions/${region}/hosts`;
    const { hosts } = await this.edge.operator.request<{ hosts: { id: string; url: string; vmCount: number; down: boolean }[] }>(
      "GET",
      path,
    );
    return hosts;
  }

  async drain(region: RegionName, hostId: string, draining: boolean): Promise<void> {
    await this.edge.operator.request("PATCH", `/operator/v1/regions/${region}/hosts/${hostId}`, { draining });
  }
}

/** A VM in a region, by create's own field. */
export async function newVm({ api }: OwnerAccount, region: RegionName, spreadGroup?: string): Promise<string> {
  const placement = { region, ...(spreadGroup === undefined ? {} : { spreadGroup }) };
  return (await api.request<{ id: string }>("POST", "/v5/vms", { firewall: { rules: [] }, placement })).id;
}

/** A new identity with a grant on each VM, and a token of it. */
export async function newHolder({ api }: OwnerAccount, vmIds: readonly string[]): Promise<Holder> {
  const { id: identityId } = await api.request<{ id: string }>("POST", "/identity/v1/identities");
  for (const vmId of vmIds) await api.request("POST", grantPath(identityId, vmId), {});
  const made = await api.request<{ id: string; token: string }>("POST", `/identity/v1/identities/${identityId}/tokens`);
  return { token: made.token, tokenId: made.id, identityId };
}

export function grantPath(identityId: string, vmId: string): string {
  return `/identity/v1/identities/${identityId}/permissions/vm/${vmId}`;
}

/** An SSH session that says that it is live and then stays. */
export function longSession({ ssh }: RegionParts, vmId: string, token: string): BackgroundCommand {
  return ssh.sshInBackground(`${vmId}:${token}`, "echo live; exec sleep 600");
}

async function startRegion(edge: LocalEdge, folder: string, name: RegionName): Promise<RegionParts> {
  const made = await edge.operator.request<{ serviceKey: string }>("POST", `/operator/v1/regions/${name}/service-keys`, {});
  const serviceKeyFile = join(folder, `${name}.key`);
  writeFileSync(serviceKeyFile, made.serviceKey, { mode: 0o600 });
  const common = { edgeUrl: edge.url, serviceKeyFile };
  // A port that is named, so that it is the same one after a restart.
  const port = await freePort();
  const forwarding = ServicePart.start({
    ...common,
    kind: "forwarder",
    home: join(folder, `${name}-forwarder`),
    env: { POSTERN_SSH_LISTEN: `127.0.0.1:${port}`, POSTERN_DRAIN_MS: "100" },
  });
  const [forwarder, ...hosts] = await Promise.all([
    forwarding,
    ...HOSTS[name].map((env, nth) =>
      ServicePart.start({
        ...common,
        kind: "host",
        home: join(folder, `${name}-${nth + 1}`),
        env: { POSTERN_DRIVER: "container", ...env },
      }),
    ),
  ]);
  return { name, hosts, forwarder, ssh: new SshClient({ sshHost: "127.0.0.1", sshPort: port }) };
}
