import { connect, type Socket } from "node:net";
import { type Channel, Client } from "ssh2";
import { messageOf } from "../../../service/message-of.ts";
import { parseSshPublicKey, type SshKeyPair } from "../../../service/ssh-keys.ts";
import { DriverError } from "../../driver.ts";
import type { StaticMachine } from "./config.ts";

/** Where the machine's `fetch-ssh-keys` asks. Its folder is root's, so that nobody else there can answer in our place. */
const SOCKET = "/run/postern-keys/metadata.sock";
const PREPARE = `umask 022; mkdir -p /run/postern-keys && chmod 755 /run/postern-keys && rm -f ${SOCKET}`;
/** The sshd makes it for root alone; AuthorizedKeysCommandUser is another. What it serves are public keys. */
const SHARE = `chmod 666 ${SOCKET}`;

export interface ControlLimits {
  /** Longest wait for a connection and login, milliseconds. */
  readonly connectMs: number;
  /** Between keepalives, milliseconds; after three without an answer the machine counts as gone. */
  readonly keepaliveMs: number;
}

/** Where what the machine asks of metadata goes, and the address by which it is known there. */
export interface MetadataWay {
  readonly host: string;
  readonly port: number;
  readonly localAddress: string;
}

/** A connection to a machine as its root, by which the machine may ask for keys as long as it stands. */
export interface Control {
  /** Resolves when the connection has ended, whoever ended it. */
  readonly ended: Promise<void>;
  close(): void;
}

/** Connects. Throws `DriverError` `unreachable`, `host-key`, `login` or `engine` in words for the operator. */
export async function openControl(
  machine: StaticMachine,
  pair: SshKeyPair,
  way: MetadataWay,
  limits: ControlLimits,
): Promise<Control> {
  const client = await logInAsRoot(machine, pair, limits);
  const ended = new Promise<void>((resolve) => client.once("close", () => resolve()));
  client.on("unix connection", (_details, accept) => joinMetadata(accept(), way));
  try {
    await runAsRoot(client, PREPARE);
    await forward(client);
    await runAsRoot(client, SHARE);
  } catch (error) {
    client.destroy();
    throw new DriverError("engine", `${machine.address}: ${messageOf(error)}`);
  }
  return { ended, close: () => client.destroy() };
}

function logInAsRoot(machine: StaticMachine, pair: SshKeyPair, { connectMs, keepaliveMs }: ControlLimits): Promise<Client> {
  const { address, port, hostKey } = machine;
  const pinned = parseSshPublicKey(hostKey)?.blob;
  const client = new Client();
  let hostKeyMatches = true;
  return new Promise((resolve, reject) => {
    client.once("ready", () => resolve(client));
    // Stays for the client's whole life: an `error` event without a listener would end the process.
    client.on("error", (error: Error & { level?: string }) => {
      client.destroy();
      if (!hostKeyMatches) {
        reject(new DriverError("host-key", `${address}:${port} shows another host key than its configuration pins`));
      } else if (error.level === "client-authentication") {
        const advice = "put the agent's public key into its /root/.ssh/authorized_keys";
        reject(new DriverError("login", `${address}:${port} refused the host agent's key as root: ${advice}`));
      } else {
        reject(new DriverError("unreachable", `${address}:${port} does not answer: ${error.message}`));
      }
    });
    client.once("close", () => reject(new DriverError("unreachable", `${address}:${port} closed the connection`)));
    client.connect({
      host: address,
      port,
      username: "root",
      privateKey: pair.privateKey,
      authHandler: ["publickey"],
      readyTimeout: connectMs,
      keepaliveInterval: keepaliveMs,
      keepaliveCountMax: 3,
      algorithms: { serverHostKey: ["ssh-ed25519"] },
      hostVerifier: (key: Buffer) => {
        hostKeyMatches = pinned?.equals(key) ?? false;
        return hostKeyMatches;
      },
    });
  });
}

function runAsRoot(client: Client, command: string): Promise<void> {
  return new Promise((resolve, reject) => {
    client.exec(command, (refused, channel) => {
      if (refused !== undefined) {
        reject(refused);
        return;
      }
      let complaint = "";
      channel.resume();
      channel.stderr.on("data", (data: Buffer) => {
        complaint = `${complaint}${data.toString("utf8")}`.slice(-500);
      });
      channel.once("close", (status: number | null) => {
        if (status === 0) resolve();
        else reject(new Error(`"${command}" failed (${status ?? "cut"}): ${complaint.trim()}`));
      });
    });
  });
}

function forward(client: Client): Promise<void> {
  return new Promise((resolve, reject) => {
    client.openssh_forwardInStreamLocal(SOCKET, (refused) => {
      if (refused === undefined || refused === null) resolve();
      else reject(new Error(`its sshd forwards no ${SOCKET} (AllowStreamLocalForwarding): ${refused.message}`));
    });
  });
}

function joinMetadata(channel: Channel, way: MetadataWay): void {
  const metadata: Socket = connect(way);
  const cut = () => {
    metadata.destroy();
    channel.destroy();
  };
  metadata.on("error", cut);
  channel.on("error", cut);
  channel.pipe(metadata).pipe(channel);
}
