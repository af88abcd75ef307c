import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../../bin/operator.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";
import { generateSshKeyPair } from "../../service/ssh-keys.ts";
import { ExistingMachine } from "../host/support/static-machine.ts";
import type { BackgroundCommand } from "../system/command.ts";
import { EdgeProxy } from "../system/edge-proxy.ts";
import { LocalEdge } from "../system/local-edge.ts";
import { freePort } from "../system/ports.ts";
import { ServicePart, type ServicePartOptions } from "../system/service-part.ts";
import { SshClient } from "../system/ssh-client.ts";
import { ShiftedClock } from "./shifted-clock.ts";

const MACHINE = { address: "127.92.0.1", port: 2022 } as const;

/** Settings, by their names in the environment. */
type Env = Readonly<Record<string, string>>;

/** Somebody who may log in, and what takes that away. */
export interface Holder {
  readonly token: string;
  readonly identityId: string;
  readonly tokenId: string;
}

/**
 * What one SSH login needs, each part a process of its own: the edge under plain workerd, a host agent with one existing machine
 * (a real sshd), and a forwarder, whose clock can be moved and whose way to the edge goes through a proxy.
 */
export class SshWorld {
  readonly edge: LocalEdge;
  readonly proxy: EdgeProxy;
  readonly forwarder: ServicePart;
  readonly clock: ShiftedClock;
  readonly vmId: string;
  readonly ssh: SshClient;
  /** Starts one more forwarder behind the same proxy, once; answers an SSH client that knows it. */
  readonly anotherForwarder: (env: Env) => Promise<SshClient>;
  readonly #accountId: string;
  readonly #owner: ApiClient;
  readonly #close: () => Promise<void>;

  private constructor(
    parts: Pick<SshWorld, "edge" | "proxy" | "forwarder" | "clock" | "vmId" | "ssh" | "anotherForwarder">,
    { accountId, owner }: Owner,
    close: () => Promise<void>,
  ) {
    this.edge = parts.edge;
    this.proxy = parts.proxy;
    this.forwarder = parts.forwarder;
    this.clock = parts.clock;
    this.vmId = parts.vmId;
    this.ssh = parts.ssh;
    this.anotherForwarder = parts.anotherForwarder;
    this.#accountId = accountId;
    this.#owner = owner;
    this.#close = close;
  }

  /** `env`: more settings of the forwarder. `host`: more settings of the host, whose way to the edge then goes through the proxy too. */
  static async open(env: Env = {}, host: Env | null = null): Promise<SshWorld> {
    const folder = mkdtempSync(join(tmpdir(), "postern-ssh-world-"));
    const closers: (() => Promise<unknown> | unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];
    const close = async () => {
      for (const closer of closers.splice(0).reverse()) await closer();
    };
    try {
      const edge = await LocalEdge.start({ folder: join(folder, "edge") });
      closers.push(() => edge.end("SIGTERM"));
      const { serviceKey } = await edge.operator.request<{ serviceKey: string }>(
        "POST",
        "/operator/v1/regions/local/service-keys",
        {},
      );
      const serviceKeyFile = join(folder, "service.key");
      writeFileSync(serviceKeyFile, serviceKey, { mode: 0o600 });
      const vmId = newVmId(platformRandomBytes);
      const machine = await startMachine(join(folder, "host"), vmId);
      closers.push(() => machine.close());
      const proxy = await EdgeProxy.start(edge.url);
      closers.push(() => proxy.stop());
      const hostPart = await ServicePart.start({
        kind: "host",
        home: folder,
        edgeUrl: host === null ? edge.url : proxy.url,
        serviceKeyFile,
        env: { POSTERN_DRIVER: "static", POSTERN_STATIC_MACHINES: join(folder, "host", "machines.json"), ...host },
      });
      closers.push(() => hostPart.end("SIGTERM"));
      const owner = await register(edge, vmId);

      const clock = new ShiftedClock(folder);
      const start = async (home: string, more: Env) => {
        const started = await startForwarder({ home, edgeUrl: proxy.url, serviceKeyFile }, more);
        closers.push(
          () => started.forwarder.end("SIGTERM"),
          () => started.ssh.close(),
        );
        return started;
      };
      const { forwarder, ssh } = await start(folder, { ...clock.env, ...env });
      const another = async (more: Env) => (await start(join(folder, "another"), more)).ssh;
      return new SshWorld({ edge, proxy, forwarder, clock, vmId, ssh, anotherForwarder: another }, owner, close);
    } catch (error) {
      await close();
      throw error;
    }
  }

  /** A new identity with a grant and a token. `expiresInSeconds`: the token's own end; absent: none. */
  async newHolder(expiresInSeconds?: number): Promise<Holder> {
    const { id: identityId } = await this.#owner.request<{ id: string }>("POST", "/identity/v1/identities");
    await this.#owner.request("POST", `/identity/v1/identities/${identityId}/permissions/vm/${this.vmId}`, {});
    const made = await this.#owner.request<{ id: string; token: string }>(
      "POST",
      `/identity/v1/identities/${identityId}/tokens`,
      expiresInSeconds === undefined ? undefined : { expiresInSeconds },
    );
    return { token: made.token, tokenId: made.id, identityId };
  }

  revoke({ identityId, tokenId }: Holder): Promise<unknown> {
    return this.#owner.request("DELETE", `/identity/v1/identities/${identityId}/tokens/${tokenId}`);
  }

  /** Another API key of the account that has the machine. */
  newKey(): Promise<{ apiKey: string; keyId: string }> {
    return this.edge.operator.request("POST", `/operator/v1/accounts/${this.#accountId}/api-keys`, {});
  }

  revokeKey(keyId: string): Promise<unknown> {
    return this.edge.operator.request("DELETE", `/operator/v1/accounts/${this.#accountId}/api-keys/${keyId}`);
  }

  /** A client's ticket for one login: the user name to log in as, and the ticket, which is the password. */
  ticket({ token }: Pick<Holder, "token">): Promise<{ user: string; ticket: string }> {
    return new ApiClient(this.edge.url, token).request("POST", `/v5/vms/${this.vmId}/ssh-ticket`, {});
  }

  login({ token }: Pick<Holder, "token">) {
    return this.ssh.ssh(`${this.vmId}:${token}`, "echo in");
  }

  /** A session that says that it is live and then stays. */
  session({ token }: Pick<Holder, "token">, ssh = this.ssh): BackgroundCommand {
    return ssh.sshInBackground(`${this.vmId}:${token}`, "echo live; exec cat");
  }

  close(): Promise<void> {
    return this.#close();
  }
}

async function startForwarder(parts: Pick<ServicePartOptions, "home" | "edgeUrl" | "serviceKeyFile">, more: Env) {
  const port = await freePort();
  const env = { POSTERN_SSH_LISTEN: `127.0.0.1:${port}`, POSTERN_DRAIN_MS: "100", ...more };
  const forwarder = await ServicePart.start({ ...parts, kind: "forwarder", env });
  return { forwarder, ssh: new SshClient({ sshHost: "127.0.0.1", sshPort: port }) };
}

/** A machine that is there already, and what the host agent must know of it, in the folder of the agent's state. */
async function startMachine(stateDir: string, vmId: string): Promise<ExistingMachine> {
  mkdirSync(stateDir, { mode: 0o700 });
  const pair = generateSshKeyPair(platformRandomBytes);
  writeFileSync(join(stateDir, "static-key"), pair.privateKey, { mode: 0o600 });
  writeFileSync(join(stateDir, "static-key.pub"), `${pair.publicKey}\n`);
  const machine = new ExistingMachine(pair.publicKey, MACHINE.address, MACHINE.port);
  await machine.up();
  const machines = [{ vmId, ...MACHINE, hostKey: machine.hostKey.publicKey }];
  writeFileSync(join(stateDir, "machines.json"), JSON.stringify({ machines }));
  return machine;
}

interface Owner {
  readonly accountId: string;
  readonly owner: ApiClient;
}

/** Gives the machine to a new account. */
async function register(edge: LocalEdge, vmId: string): Promise<Owner> {
  const { accountId, apiKey } = await edge.operator.request<{ accountId: string; apiKey: string }>(
    "POST",
    "/operator/v1/accounts",
    {
      name: "ssh",
    },
  );
  const { hosts } = await edge.operator.request<{ hosts: { id: string }[] }>("GET", "/operator/v1/regions/local/hosts");
  const body = { vmId, region: "local", hostId: hosts[0]?.id, name: "box" };
  await edge.operator.request("POST", `/operator/v1/accounts/${accountId}/vms`, body);
  return { accountId, owner: new ApiClient(edge.url, apiKey) };
}
