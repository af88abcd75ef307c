import ssh2 from "ssh2";
import { failure, type Result, success } from "../protocol/failures.ts";
import type { SshKeyPair } from "../service/ssh-keys.ts";
import { targetAlgorithms } from "./algorithms.ts";
import type { Packet } from "./packet.ts";
import { attachLeg, type PacketLeg } from "./packet-leg.ts";
import { forgetKey, settle } from "./ssh2-after-login.ts";
import type { Tunnel } from "./tunnel.ts";

export interface TargetOptions {
  readonly tunnel: Pick<Tunnel, "socket" | "hostKey">;
  /** Made for this connection and never stored. */
  readonly key: SshKeyPair;
  readonly linuxUser: string;
  /** Longest wait for key exchange and login, in milliseconds. */
  readonly loginTimeoutMs: number;
  /** Called the moment the login is done, before any packet of the VM is handed over. */
  readonly onReady: (leg: PacketLeg) => void;
  readonly onPacket: (packet: Packet) => void;
  /** Called once when the connection is gone, for a reason that may be worth telling. */
  readonly onClose: (reason: string | null) => void;
}

/**
 * What a VM may send until the first keys are agreed on: its sshd sends a few kilobytes. `ssh2` would keep eight megabytes of lines in
 * front of the identification (RFC 4253 section 4.2).
 */
const MAX_BEFORE_KEYS_BYTES = 131_072;

/** Parses an OpenSSH public key line; null when it is none. */
export function parseHostKeyLine(line: string): { type: string; blob: Buffer } | null {
  const [type, encoded] = line.trim().split(/\s+/);
  // Names of algorithms are printable ASCII (RFC 4250 section 4.6.1).
  if (type === undefined || encoded === undefined || !/^[!-~]+$/.test(type)) return null;
  const blob = Buffer.from(encoded, "base64");
  // The blob starts with its type as a string (RFC 4253 section 6.6).
  const length = blob.length > 4 ? blob.readUInt32BE(0) : 0;
  const named = 4 + length <= blob.length ? blob.toString("latin1", 4, 4 + length) : "";
  return named === type ? { type, blob } : null;
}

/** Logs in to the VM's sshd through the tunnel, trusting only the pinned host key. */
export function loginToVm(options: TargetOptions): Promise<Result<PacketLeg>> {
  // No closure below may hold `options`: the private key would live as long as the session.
  const { linuxUser, loginTimeoutMs, onReady, onPacket, onClose } = options;
  const { socket } = options.tunnel;
  const key = parsePrivateKey(options.key);
  const pinned = parseHostKeyLine(options.tunnel.hostKey);
  const algorithms = pinned === null ? null : targetAlgorithms(pinned.type);
  if (pinned === null || algorithms === null) {
    socket.destroy();
    return Promise.resolve(failure("internal", "The VM's host named a host key of an unknown form."));
  }
  return new Promise((resolve) => {
    const client = new ssh2.Client();
    let offered = false;
    let ready = false;
    let keyMatched = true;
    let reason: string | null = null;
    client.on("error", (error) => {
      reason ??= error.message;
    });
    client.on("close", () => {
      if (ready) leg.onceRead(() => onClose(reason));
      else resolve(failure("host-unavailable", keyMatched ? NO_LOGIN(linuxUser) : CHANGED_KEY));
    });
    client.connect({
      sock: socket,
      username: linuxUser,
      authHandler: (_methods, _partial, next) => {
        if (offered) socket.destroy();
        else next({ type: "publickey", username: linuxUser, key });
        offered = true;
      },
      algorithms,
      ident: "Postern",
      readyTimeout: loginTimeoutMs,
      hostVerifier: (shown: Buffer) => {
        keyMatched = shown.equals(pinned.blob);
        return keyMatched;
      },
    });
    const leg = attachLeg(client, socket, (packet) => {
      if (ready) onPacket(packet);
      else socket.destroy();
    });
    // Of a VM whose owner has put something else in the place of its sshd.
    let beforeKeys = 0;
    const count = (chunk: Uint8Array) => {
      beforeKeys += chunk.length;
      if (beforeKeys > MAX_BEFORE_KEYS_BYTES) socket.destroy();
    };
    socket.on("data", count);
    client.once("handshake", () => socket.off("data", count));
    // A VM may say it again and again.
    client.once("ready", () => {
      ready = true;
      forgetKey(key);
      settle(client, pinned.type);
      onReady(leg);
      resolve(success(leg));
    });
  });
}

function parsePrivateKey({ privateKey }: SshKeyPair): ssh2.ParsedKey {
  const key = ssh2.utils.parseKey(privateKey);
  if (key instanceof Error) throw new Error("a key that was made here cannot be read", { cause: key });
  return key;
}

const NO_LOGIN = (user: string) =>
  `The VM did not let ${user} in. Does the Linux user exist in the VM, with a login shell, and is its sshd set up as it was made?`;
const CHANGED_KEY = "The VM showed another host key than its host vouches for. The connection was refused.";
