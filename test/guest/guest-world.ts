import { execFile, execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Driver, Machine, MachineSpec, SeedFile } from "../../host/driver.ts";
import { sshdAnswers } from "../../host/sshd-ready.ts";
import { platformRandomBytes } from "../../protocol/bytes.ts";
import { newVmId } from "../../protocol/ids.ts";

/** The guest image's cache: the one that `npm start` uses, so that a machine builds the image once. */
export const CACHE_DIR = process.env.POSTERN_CACHE ?? "/var/cache/postern";

/** A virtual machine without KVM may boot for long. */
const SSHD_DEADLINE_MS = 90_000;

export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end, whatever its exit status. */
export function run(command: string, args: readonly string[], input = ""): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = execFile(command, args, { maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : typeof error.code === "number" ? error.code : 255, stdout, stderr });
    });
    // A command that ends without reading its input is judged by its exit status.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(input);
  });
}

/** Asks again until the answer is true; fails after the deadline. */
export async function eventually(what: string, condition: () => Promise<boolean>, deadlineMs = 20_000): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not in ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export interface KeyPair {
  readonly privatePath: string;
  readonly privateText: string;
  readonly publicLine: string;
}

/** A metadata server of a few lines: the keys published for a VM and a Linux user, to that VM only. */
class TestMetadata {
  readonly #keys = new Map<string, string>();
  readonly #server: Server;

  constructor(vmAtAddress: (address: string) => string | null) {
    this.#server = createServer((request, response) => {
      const url = new URL(request.url ?? "/", "http://metadata");
      const vmId = vmAtAddress(request.socket.remoteAddress ?? "");
      const user = url.searchParams.get("user");
      response.end(url.pathname === "/latest/ssh-keys" ? (this.#keys.get(`${vmId} ${user}`) ?? "") : "");
    });
  }

  publish(vmId: string, user: string, key: KeyPair): void {
    this.#keys.set(`${vmId} ${user}`, `${key.publicLine}\n`);
  }

  async listen(address: string): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, address, resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

export type TestMachine = Machine & { readonly hostKey: KeyPair };

export interface World {
  readonly driver: Driver;
  readonly metadata: TestMetadata;
  readonly metadataPort: number;
  readonly stateDir: string;
  readonly key: KeyPair;
  makeKey(): Promise<KeyPair>;
  /** Creates a machine with a host key of its own, into which `key` may log in as root. */
  createVm(files?: readonly SeedFile[], wish?: Omit<MachineSpec, "vmId" | "files">): Promise<TestMachine>;
  /** Runs a command in a guest by OpenSSH. */
  ssh(
    machine: { readonly address: string },
    command: string,
    as?: { user?: string; key?: KeyPair; input?: string },
  ): Promise<CommandResult>;
  close(): Promise<void>;
}

/** Opens a driver on a fresh state directory, with metadata routed to a test server. */
export async function openWorld(makeDriver: (stateDir: string) => Driver): Promise<World> {
  const scratch = await mkdtemp(join(tmpdir(), "postern-guest-"));
  const stateDir = join(scratch, "state");
  const driver = makeDriver(stateDir);
  await driver.open((message) => console.log(message));
  const metadata = new TestMetadata((address) => driver.vmAtAddress(address));
  const metadataPort = await metadata.listen(driver.gatewayAddress);
  await driver.routeMetadata(metadataPort);
  let made = 0;
  const makeKey = async (): Promise<KeyPair> => {
    made += 1;
    const privatePath = join(scratch, `key${made}`);
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", `key${made}`, "-f", privatePath]);
    const publicLine = (await readFile(`${privatePath}.pub`, "utf8")).trim();
    return { privatePath, privateText: await readFile(privatePath, "utf8"), publicLine };
  };
  const key = await makeKey();
  return {
    driver,
    metadata,
    metadataPort,
    stateDir,
    key,
    makeKey,
    createVm: async (files = [], wish = {}) => {
      const vmId = newVmId(platformRandomBytes);
      const hostKey = await makeKey();
      metadata.publish(vmId, "root", key);
      const seeded = { path: "/etc/ssh/ssh_host_ed25519_key", mode: 0o600, content: hostKey.privateText };
      return { ...(await driver.create({ vmId, files: [seeded, ...files], ...wish })), hostKey };
    },
    ssh: async (machine, command, as = {}) => {
      // No more than its greeting: a key exchange with each of many virtual machines would keep them from ever being up.
      const ready = { timeoutMs: SSHD_DEADLINE_MS, pollMs: 50 };
      if (!(await sshdAnswers({ host: machine.address, port: 22 }, ready))) throw new Error("the guest's sshd does not answer");
      const options = [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "BatchMode=yes",
        "ConnectTimeout=10",
      ];
      const args = ["-i", (as.key ?? key).privatePath, ...options.flatMap((option) => ["-o", option])];
      return run("ssh", [...args, `${as.user ?? "root"}@${machine.address}`, command], as.input);
    },
    close: async () => {
      await driver.close();
      await metadata.close();
      await rm(scratch, { recursive: true, force: true });
    },
  };
}
