import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import ssh2 from "ssh2";
import { socketOf } from "../forwarder/packet-leg.ts";
import { platformRandomBytes } from "../protocol/bytes.ts";
import { newVmId } from "../protocol/ids.ts";
import { generateSshKeyPair } from "../service/ssh-keys.ts";
import { FakeEdge } from "../test/forwarder/support/fake-edge.ts";
import { FakeHost } from "../test/forwarder/support/fake-host.ts";
import type { Sshd } from "../test/forwarder/support/sshd.ts";
import { freePort } from "../test/system/ports.ts";

const WORKER = fileURLToPath(new URL("../forwarder/worker.ts", import.meta.url));
const TOKEN = "pst_aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbcccccc";

/** A forwarder in a process of its own between a fake edge and a fake host. */
export interface ForwarderAlone {
  /** Of the process that was started; with several workers they are its children. */
  readonly pid: number;
  readonly port: number;
  readonly vmId: string;
  readonly token: string;
}

/**
 * Runs `use` with a forwarder whose VM is `sshd`: for figures that a guest would drown, or that need more sessions than one
 * guest takes. `env` are settings of the forwarder.
 */
export async function withForwarder<T>(
  openVm: (folder: string) => Promise<Sshd>,
  env: Readonly<Record<string, string>>,
  use: (forwarder: ForwarderAlone) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "postern-bench-forwarder-"));
  const edge = new FakeEdge();
  await edge.start();
  const sshd = await openVm(folder);
  const host = new FakeHost(sshd, edge);
  await host.start();
  const vmId = newVmId(platformRandomBytes);
  edge.addToken(TOKEN, vmId);
  writeFileSync(join(folder, "key"), `${edge.serviceKey}\n`, { mode: 0o600 });
  const child = spawn(process.execPath, [WORKER], {
    env: {
      ...process.env,
      POSTERN_EDGE_URL: edge.url,
      POSTERN_SERVICE_KEY_FILE: join(folder, "key"),
      POSTERN_FORWARDER_STATE: join(folder, "state"),
      POSTERN_SSH_LISTEN: `127.0.0.1:${await freePort()}`,
      ...env,
    },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = once(child, "exit");
  try {
    if (child.stdout === null || child.pid === undefined) throw new Error("the forwarder did not start");
    const [line] = await once(createInterface(child.stdout), "line");
    const { port } = JSON.parse(String(line)) as { port: number };
    return await use({ pid: child.pid, port, vmId, token: TOKEN });
  } finally {
    child.kill("SIGTERM");
    child.kill("SIGTERM");
    await ended;
    await host.stop();
    await edge.stop();
    await sshd.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A VM's sshd that costs a few KiB a session and runs nothing. */
export async function openIdleVm(): Promise<Sshd> {
  return openVm(() => undefined);
}

/** A VM's sshd that looks at nothing that comes after the login. */
export interface SinkVm extends Sshd {
  /** Bytes that have come after logins, encrypted. */
  received(): number;
}

export async function openSinkVm(): Promise<SinkVm> {
  let received = 0;
  const sshd = await openVm((socket) => {
    socket.removeAllListeners("data");
    socket.on("data", (chunk: Buffer) => {
      received += chunk.length;
    });
  });
  return { ...sshd, received: () => received };
}

async function openVm(onReady: (socket: Socket) => void): Promise<Sshd> {
  const pair = generateSshKeyPair(platformRandomBytes);
  const server = new ssh2.Server({ hostKeys: [pair.privateKey], algorithms: { cipher: ["aes128-gcm@openssh.com"] } });
  const sockets = new Set<Socket>();
  server.on("connection", (connection) => {
    const socket = socketOf(connection);
    connection.on("error", () => undefined);
    connection.on("authentication", (context) => context.accept());
    connection.on("ready", () => socket !== null && onReady(socket));
  });
  const listener = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    server.injectSocket(socket);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  return {
    port: (listener.address() as AddressInfo).port,
    hostKey: pair.publicKey,
    authorise: () => undefined,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      listener.close();
    },
  };
}
